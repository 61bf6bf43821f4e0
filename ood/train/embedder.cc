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
    e.takes_.mean = notes.mean;
    e.takes_.deviation = notes.deviation;
    const bool fixed = e.file_.kind == kPackageNetwork;
    e.takes_.height = fixed ? notes.height : 0;
    e.takes_.width = fixed ? notes.width : 0;
    return e;
  }
  const auto path = model_of(source);
  const Trained trained = load_trained(path);
  compute_on(e.device_, trained);
  e.network_ = trained.model.network;
  e.takes_ = trained.description;
  return e;
}

void Embedder::in_parts(const Inputs& x, const std::function<void(const at::Tensor&)>& visit) {
  const auto inputs = taken(x);
  run_in_parts(*network_, takes_.mean, takes_.deviation, inputs,
               [&](const NetworkOutput& output, std::int64_t) { visit(output.features.cpu()); });
}

Inputs Embedder::taken(const Inputs& x) {
  const auto channels = static_cast<std::int64_t>(takes_.mean.size());
  if (x.embeddings() != takes_.embeddings || (takes_.embeddings && x.channels() != channels))
    throw DataError("expected " + input_kind(takes_.embeddings, channels) +
                    ", as the network takes, got " + input_kind(x.embeddings(), x.channels()));
  if (takes_.height == 0) {
    takes_.height = x.height();
    takes_.width = x.width();
  }
  if (!network_) {
    network_ = make_network(file_, {channels, takes_.height, takes_.width, 1}, /*trains=*/false);
    network_->eval();
    compute_on(device_, *network_, /*of_user=*/true, takes_.mean, takes_.deviation,
               [&] { return prepared(x.slice(0, std::min<std::int64_t>(1, x.size()))); });
  }
  return takes_.embeddings ? x : prepared(x);
}

Inputs Embedder::prepared(const Inputs& pictures) const {
  return channels_for(pictures.brought_to({takes_.height, takes_.width, takes_.crop}), takes_.mean,
                      "the pictures");
}

PictureOptions Embedder::reading(const PictureOptions& asked) const {
  PictureOptions options = asked;
  if (takes_.embeddings || file_.kind == kScriptNetwork) return options;
  if (asked.size.given() &&
      (asked.size.height != takes_.height || asked.size.width != takes_.width))
    throw UsageError("`image-size`: expected none, or the " + std::to_string(takes_.width) + "x" +
                     std::to_string(takes_.height) +
                     (file_ ? " that the file is made for, got " : " of the run's training, got ") +
                     std::to_string(asked.size.height));
  if (file_) {
    options.size = {takes_.height, takes_.width, asked.size.crop};
    return options;
  }
  const auto behind = parse_colour(takes_.alpha);
  if (asked.behind && *asked.behind != behind)
    throw UsageError("`alpha`: expected none, or the " + takes_.alpha + " of the run's training");
  options.size = {takes_.height, takes_.width, takes_.crop};
  options.behind = behind;
  return options;
}

}  // namespace ood
