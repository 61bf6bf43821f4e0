#include "ood/train/embedder.h"

#include <algorithm>

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
    const auto constants = script_notes(e.archive_);
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
  e.crop_ = d.crop;
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
  if (height_ == 0) {
    height_ = x.size(2);
    width_ = x.size(3);
  }
  if (!network_) {
    network_ = make_script_network(archive_, {channels, height_, width_, 1}, /*trains=*/false);
    network_->eval();
  }
  // In parts: pictures at their size may be much larger than at the network's.
  constexpr std::int64_t kRows = 500;
  std::vector<at::Tensor> features;
  for (std::int64_t i = 0; i < std::max<std::int64_t>(x.size(0), 1); i += kRows) {
    const auto part = x.slice(0, i, std::min(i + kRows, x.size(0)));
    features.push_back(
        run_network(*network_, mean_, deviation_, embeddings_ ? part : prepared(part)).features);
  }
  return torch::cat(features);
}

at::Tensor Embedder::prepared(const at::Tensor& pictures) const {
  const auto wanted = static_cast<std::int64_t>(mean_.size()), has = pictures.size(1);
  if (wanted != has && !(std::min(wanted, has) == 1 && std::max(wanted, has) == 3))
    throw DataError("expected pictures of " + std::to_string(wanted) + " channels, got " +
                    std::to_string(has));
  return brought_to(with_channels(pictures, wanted), height_, width_, crop_);
}

PictureOptions Embedder::reading(const PictureOptions& asked) const {
  PictureOptions options = asked;
  if (!archive_.empty() || embeddings_) return options;
  if (asked.image_size != 0 && (asked.image_size != height_ || asked.image_size != width_))
    throw UsageError("`image-size`: expected none, or the " + std::to_string(width_) + "x" +
                     std::to_string(height_) + " of the run's training, got " +
                     std::to_string(asked.image_size));
  if (height_ == width_) options.image_size = height_;
  options.crop = crop_;
  return options;
}

}  // namespace ood
