#include "ood/train/embedder.h"

#include "ood/data/picture.h"
#include "ood/errors.h"
#include "ood/train/device.h"
#include "ood/train/evaluate.h"
#include "ood/train/run_files.h"
#include "ood/train/trained.h"

namespace ood {

Embedder Embedder::load(const std::filesystem::path& source, const std::string& device) {
  Embedder e;
  e.device_ = open_device(device);
  if (is_network_file(source.string())) {
    e.file_ = open_network_file(source);
    const auto notes = notes_of(e.file_);
    if (notes.mean.empty())
      throw UsageError(source.string() +
                       ": says nothing of its inputs' mean and deviation; make it with python -m "
                       "ood.to_program --normalise imagenet, half or M,M,M/D,D,D");
    e.mean_ = notes.mean;
    e.deviation_ = notes.deviation;
    if (e.file_.kind == kPackageNetwork) {
      e.height_ = notes.height;
      e.width_ = notes.width;
    }
    return e;
  }
  const auto path = model_of(source);
  const Trained trained = load_trained(path);
  compute_on(e.device_, trained);
  const ModelDescription& d = trained.description;
  e.network_ = trained.model.network;
  e.mean_ = d.mean;
  e.deviation_ = d.deviation;
  e.height_ = d.height;
  e.width_ = d.width;
  e.embeddings_ = d.embeddings;
  e.crop_ = d.crop;
  e.alpha_ = d.alpha;
  e.behind_ = parse_colour(d.alpha);
  return e;
}

at::Tensor Embedder::operator()(const Inputs& x) {
  const auto inputs = taken(x);
  return run_network(*network_, mean_, deviation_, inputs).features;
}

void Embedder::in_parts(const Inputs& x, const std::function<void(const at::Tensor&)>& visit) {
  const auto inputs = taken(x);
  run_in_parts(*network_, mean_, deviation_, inputs,
               [&](const NetworkOutput& output, std::int64_t) { visit(output.features.cpu()); });
}

Inputs Embedder::taken(const Inputs& x) {
  const auto channels = static_cast<std::int64_t>(mean_.size());
  if (x.embeddings() != embeddings_ || (embeddings_ && x.channels() != channels))
    throw DataError("expected " + input_kind(embeddings_, channels) +
                    ", as the network takes, got " + input_kind(x.embeddings(), x.channels()));
  if (height_ == 0) {
    height_ = x.height();
    width_ = x.width();
  }
  if (!network_) {
    network_ = make_network(file_, {channels, height_, width_, 1}, /*trains=*/false);
    network_->eval();
    compute_on(device_, *network_, /*of_user=*/true, mean_, deviation_,
               [&] { return prepared(x.slice(0, std::min<std::int64_t>(1, x.size()))); });
  }
  return embeddings_ ? x : prepared(x);
}

Inputs Embedder::prepared(const Inputs& pictures) const {
  return channels_for(pictures.brought_to({height_, width_, crop_}), mean_, "the pictures");
}

PictureOptions Embedder::reading(const PictureOptions& asked) const {
  PictureOptions options = asked;
  if (embeddings_ || file_.kind == kScriptNetwork) return options;
  if (asked.size.given() && (asked.size.height != height_ || asked.size.width != width_))
    throw UsageError("`image-size`: expected none, or the " + std::to_string(width_) + "x" +
                     std::to_string(height_) +
                     (file_ ? " that the file is made for, got " : " of the run's training, got ") +
                     std::to_string(asked.size.height));
  if (file_) {
    options.size = {height_, width_, asked.size.crop};
    return options;
  }
  if (asked.behind && *asked.behind != behind_)
    throw UsageError("`alpha`: expected none, or the " + alpha_ + " of the run's training");
  options.size = {height_, width_, crop_};
  options.behind = behind_;
  return options;
}

}  // namespace ood
