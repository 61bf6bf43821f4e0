#include "ood/train/model_file.h"

#include <set>

#include "ood/errors.h"
#include "ood/torch.h"

namespace ood {
namespace {

template <class Visit>
void for_each_tensor(const Model& model, const Visit& visit) {
  const auto of = [&](const torch::nn::Module& module, const std::string& prefix) {
    for (const auto& p : module.named_parameters()) visit(prefix + p.key(), p.value());
    for (const auto& b : module.named_buffers()) visit(prefix + b.key(), b.value());
  };
  of(*model.network, "");
  of(*model.objective, "objective.");
}

// Weights that two layers share have two names and are trained once.
template <class Takes>
std::vector<at::Tensor> trained_once(const torch::nn::Module& module, const Takes& takes) {
  std::vector<at::Tensor> all;
  std::set<const void*> seen;
  for (const auto& p : module.named_parameters())
    if (p.value().requires_grad() && takes(p.key()) &&
        seen.insert(p.value().unsafeGetTensorImpl()).second)
      all.push_back(p.value());
  return all;
}

}  // namespace

std::vector<at::Tensor> trainable(const Model& model) {
  std::vector<at::Tensor> all = trained_once(*model.network, [](const auto&) { return true; });
  const auto own = trained_once(*model.objective, [](const auto&) { return true; });
  all.insert(all.end(), own.begin(), own.end());
  return all;
}

std::size_t of_backbone(const Model& model) {
  return trained_once(*model.network,
                      [](const std::string& name) { return !Classifier::is_of_head(name); })
      .size();
}

TensorFile tensors_of(const Model& model) {
  TensorFile file;
  for_each_tensor(model, [&](const std::string& name, const at::Tensor& t) {
    file.tensors.emplace_back(name, t);
  });
  return file;
}

void fill_model(const Model& model, const TensorFile& file, const std::filesystem::path& path) {
  const torch::NoGradGuard no_grad;
  for_each_tensor(model, [&](const std::string& name, at::Tensor to) {
    const auto from = file.find(name);
    if (!from.defined())
      throw DataError(path.string() + ": expected tensor " + name + ", found none");
    if (from.sizes() != to.sizes())
      throw DataError(path.string() + ": tensor " + name + " has another shape than the network's");
    if (from.scalar_type() != to.scalar_type())
      throw DataError(path.string() + ": tensor " + name + " has another type than the network's");
    to.copy_(from);
  });
}

}  // namespace ood
