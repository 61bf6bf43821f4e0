#include "ood/nn/criterion.h"

#include "ood/ops/readout.h"

namespace ood::nn {

CriterionCore::CriterionCore(std::string_view objective, std::vector<double> parameters,
                             const std::array<std::int64_t, 2>& sizes, ReductionOptions options)
    : kept(get_objective(objective), /*training=*/false),
      entry_(&get_objective(objective)),
      parameters_(std::move(parameters)),
      sizes_{entry_->slice.by_class ? sizes[0] : 0, entry_->slice.by_class ? sizes[1] : sizes[0]},
      options_(std::move(options)) {}

at::Tensor CriterionCore::loss(std::vector<at::Tensor> in, bool training, const Head& head) {
  const SliceEntry& slice = entry_->slice;
  auto options = options_;
  if (in.size() == slice.inputs.size() + 2) {  // a weight of rows after the target
    options.weight = in.back();
    in.pop_back();
  }
  TORCH_CHECK_VALUE(in.size() == slice.inputs.size() + 1, entry_->name, ": expected ",
                    slice.inputs.size(), " inputs and a target, got ", in.size(), " tensors");
  const bool updates = training && slice.updates_each_step;
  std::vector<at::Tensor> step;
  for (const auto& t : in) step.push_back(t.detach());
  if (options.ignore_index && slice.state.size() > 0 && step.back().dim() == 1) {
    const auto kept = step.back().ne(*options.ignore_index).nonzero().squeeze(1);
    for (auto& t : step) t = t.index_select(0, kept);
  }
  TORCH_CHECK_VALUE(!training || !slice.outliers_through_head || head != nullptr, entry_->name,
                    ": expected the network's last layer after the target");
  if (updates && slice.updates_first) update(step, Event{});
  const auto state = kept.of_loss(/*copied=*/updates);
  in.insert(in.end(), state.begin(), state.end());
  if (training && slice.draw != nullptr) {
    Event event;
    event.epochs = 0;  // of no training: from the first step on
    auto all = step;
    all.insert(all.end(), kept.all().begin(), kept.all().end());
    const auto drawn = objective_draw(*entry_, parameters_, all, event);
    if (drawn.defined()) in.push_back(slice.outliers_through_head ? head(drawn) : drawn);
  }
  const auto losses = objective_loss(*entry_, parameters_, in, options);
  if (updates && !slice.updates_first) update(step, Event{});
  return losses.loss;
}

at::Tensor CriterionCore::distance(const at::Tensor& embedding) const {
  TORCH_CHECK_VALUE(entry_->slice.distances != nullptr, entry_->name, ": has no distances");
  return entry_->slice.distances(parameters_, embedding, kept.all());
}

Readout CriterionCore::readout(const NetworkOutput& output) const {
  return read_out(*entry_, parameters_, output, kept.all());
}

void CriterionCore::print(std::ostream& stream) const {
  stream << "ood::nn::" << entry_->class_name
         << (entry_->class_name.ends_with("Loss") ? "(" : "Loss(");
  for (std::size_t i = 0; i < parameters_.size(); ++i)
    if (!entry_->parameters[i].training_only)
      stream << entry_->parameters[i].name << "=" << parameters_[i] << ", ";
  stream << "reduction=" << name(options_.reduction) << ")";
}

}  // namespace ood::nn
