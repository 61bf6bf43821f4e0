#include "ood/train/embedder.h"

#include "ood/data/picture.h"
#include "ood/errors.h"
#include "ood/models/script_network.h"
#include "ood/train/evaluate.h"
#include "ood/train/trained.h"

namespace ood {

Embedder Embedder::load(const std::filesystem::path& source) {
  Embedder e;
  if (is_script_file(source.string())) {
    e.archive_ = read_script_file(source.string());
    const auto constants = constants_of(e.archive_);
    if (constants.mean.empty())
      throw UsageError(source.string() +
                       ": says nothing of its inputs' mean and deviation; make it with python -m "
                       "ood.to_program --normalise imagenet, half or M,M,M/D,D,D");
    e.mean_ = constants.mean;
    e.deviation_ = constants.deviation;
    return e;
  }
  const auto path = std::filesystem::is_directory(source) ? source / "model.safetensors" : source;
  const Trained trained = load_trained(path);
  const ModelDescription& d = trained.description;
  e.network_ = trained.model.network;
  e.mean_ = d.mean;
  e.deviation_ = d.deviation;
  e.height_ = d.height;
  e.width_ = d.width;
  e.embeddings_ = d.embeddings;
  return e;
}

at::Tensor Embedder::operator()(const at::Tensor& inputs) {
  const auto channels = static_cast<std::int64_t>(mean_.size());
  auto x = inputs;
  if (x.is_floating_point() != embeddings_ || (embeddings_ && x.size(1) != channels))
    throw DataError("expected " +
                    (embeddings_ ? "embeddings of " + std::to_string(channels) + " numbers"
                                 : std::string("pictures")) +
                    ", as the network takes, got " +
                    (x.is_floating_point()
                         ? "embeddings of " + std::to_string(x.size(1)) + " numbers"
                         : std::string("pictures")));
  if (!embeddings_) {
    x = with_channels(x, channels);
    if (height_ == 0) {
      height_ = x.size(2);
      width_ = x.size(3);
    }
    x = resized(x, height_, width_);
  }
  if (!network_) {
    network_ = make_script_network(archive_, {channels, height_, width_, 1}, /*trains=*/false);
    network_->eval();
  }
  return run_network(*network_, mean_, deviation_, x).features;
}

}  // namespace ood
