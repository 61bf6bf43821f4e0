#include "ood/train/shared_state.h"

#include <nlohmann/json.hpp>

#include "ood/torch.h"

namespace ood {
namespace {

using json = nlohmann::ordered_json;

// A communication takes contiguous numbers.
template <class Change>
void change(const at::Tensor& t, const Change& change_contiguous) {
  const torch::NoGradGuard no_grad;
  const auto numbers = t.detach().contiguous();
  change_contiguous(numbers);
  if (!numbers.is_alias_of(t)) t.detach().copy_(numbers);
}

void share(const Ranks& ranks, const at::Tensor& t) {
  change(t, [&](const at::Tensor& numbers) { ranks.share(numbers); });
}

}  // namespace

void share_model(const Ranks& ranks, const Model& model) {
  if (ranks.alone()) return;
  for (const auto& [unused, t] : tensors_of(model).tensors) share(ranks, t);
}

Position share_state(const Ranks& ranks, const Position& position, const Model& model,
                     Optimizer& optimizer) {
  if (ranks.alone()) return position;
  share_model(ranks, model);
  json about = {{"position", to_json(position)}, {"optimizer", json::array()}};
  auto state = optimizer.state();
  for (const auto& [name, t] : state)
    about["optimizer"].push_back({name, static_cast<int>(t.scalar_type()), t.sizes().vec()});
  about = json::parse(ranks.share(about.dump()));
  if (!ranks.first()) {
    state.clear();
    for (const auto& part : about.at("optimizer"))
      state.emplace_back(part.at(0).get<std::string>(),
                         torch::empty(part.at(2).get<std::vector<std::int64_t>>(),
                                      static_cast<at::ScalarType>(part.at(1).get<int>())));
  }
  for (const auto& [unused, t] : state) share(ranks, t);
  if (!ranks.first()) optimizer.restore(state);
  return position_of(about.at("position"));
}

void settle(const Ranks& ranks, const Model& model) {
  if (ranks.alone()) return;
  for (const auto& t : model.network->buffers()) {
    if (!t.is_floating_point()) continue;
    change(t, [&](at::Tensor numbers) {
      ranks.start_sum(numbers)();
      numbers.div_(ranks.size());
    });
  }
  share_model(ranks, model);
}

}  // namespace ood
