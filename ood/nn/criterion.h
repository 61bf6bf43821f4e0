#pragma once

#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <torch/nn/cloneable.h>
#include <torch/nn/pimpl.h>

#include <cmath>
#include <functional>
#include <ostream>

#include "ood/nn/kept_state.h"
#include "ood/ops/row_terms.h"
#include "ood/registry/options.h"

/// The torch::nn module and the function of every objective.
///
///   ood::nn::OutlierExposureLoss criterion(ood::nn::OutlierExposureLossOptions().alpha(0.5));
///   auto loss = criterion(logits, target);   // target < 0 marks an outlier
///   loss.backward();
///
///   ood::nn::MCHADLoss centers(ood::nn::MCHADLossOptions(classes, dimension).margin(1));
///   ood::nn::ConfidenceLoss confidence(0.1, 0.3, 0.5);   // or the values, sizes first
namespace ood::nn {

namespace functional {

template <class Options>
at::Tensor LossFunction<Options>::operator()(const at::Tensor& logits, const at::Tensor& target,
                                             const Options& options,
                                             const std::optional<at::Tensor>& weight,
                                             const std::optional<at::Tensor>& extras) const {
  return loss(logits, target, Options::Formula::kCard.name, options.parameters(), extras, weight,
              name(options.reduction()), name(options.balance()), options.ignore_index());
}

}  // namespace functional

/// What all modules share.
class CriterionCore {
 public:
  using Head = std::function<at::Tensor(const at::Tensor&)>;

  CriterionCore(std::string_view objective, std::vector<double> parameters,
                const std::array<std::int64_t, 2>& sizes, ReductionOptions options);

  void start(torch::nn::Module& owner) { kept.start(owner, parameters_, sizes_); }
  /// Inputs and target -> loss. In training mode the state is updated, too.
  at::Tensor loss(std::vector<at::Tensor> inputs, bool training, const Head& head);
  void update(Tensors inputs, const Event& event) {
    objective_update(*entry_, parameters_, inputs, kept.all(), event);
  }
  at::Tensor distance(const at::Tensor& embedding) const;
  Readout readout(const NetworkOutput& output) const;
  void print(std::ostream& stream) const;

  KeptState kept;

 private:
  const ObjectiveEntry* entry_;
  std::vector<double> parameters_;
  Sizes sizes_;
  ReductionOptions options_;
};

/// Options of positional values: the sizes of the state, then the parameters.
template <class Options>
Options options_of(std::initializer_list<double> values) {
  using Slice = typename Options::Formula;
  Options options;
  std::size_t sizes = 0;
  if constexpr (requires { Slice::kByClass; }) ++sizes;
  if constexpr (requires { Slice::kByDimension; }) ++sizes;
  std::vector<std::string_view> order;
  if constexpr (requires { Slice::kCppOrder; })
    order.assign(Slice::kCppOrder.begin(), Slice::kCppOrder.end());
  else
    for (const auto& p : Slice::kParameters) order.push_back(p.name);
  std::size_t i = 0;
  for (const double value : values) {
    const std::size_t at = i++;
    if (at < sizes) {
      TORCH_CHECK_VALUE(value == std::floor(value), Slice::kCard.name,
                        ": expected a whole number as a size, got ", value);
      options.sizes[at] = static_cast<std::int64_t>(value);
      continue;
    }
    TORCH_CHECK_VALUE(at - sizes < order.size(), Slice::kCard.name, ": expected at most ",
                      sizes + order.size(), " values, got ", values.size());
    for (const auto& p : Slice::kParameters)
      if (p.name == order[at - sizes]) set_parameter(options.formula, p, value);
  }
  return options;
}

template <class Options>
class CriterionImpl : public torch::nn::Cloneable<CriterionImpl<Options>> {
 public:
  using Slice = typename Options::Formula;
  using Base = torch::nn::Cloneable<CriterionImpl<Options>>;

  explicit CriterionImpl(const Options& options_ = {})
      : options(options_),
        core_(Slice::kCard.name, options_.parameters(), options_.sizes,
              {options_.reduction(), options_.balance(), options_.ignore_index(), {}}) {
    reset();
  }
  template <class... Value>
  requires(sizeof...(Value) > 0 &&
           (std::is_arithmetic_v<Value> && ...)) explicit CriterionImpl(Value... values)
      : CriterionImpl(options_of<Options>({static_cast<double>(values)...})) {}

  void reset() override { core_.start(*this); }
  /// With state of its own, equal to this one's.
  std::shared_ptr<torch::nn::Module> clone(
      const std::optional<torch::Device>& device = std::nullopt) const override {
    auto copy = Base::clone(device);
    // torch copies the tensors of a module, not those that a plain module in it holds.
    static_cast<CriterionImpl&>(*copy).core_.kept.take(core_.kept, device);
    return copy;
  }
  void pretty_print(std::ostream& stream) const override { core_.print(stream); }
  using Base::to;
  void to(torch::Device device, torch::Dtype dtype, bool non_blocking = false) override {
    core_.kept.keep_exact([&] { Base::to(device, dtype, non_blocking); });
  }
  void to(torch::Device device, bool non_blocking = false) override {
    core_.kept.keep_exact([&] { Base::to(device, non_blocking); });
  }
  void to(torch::Dtype dtype, bool non_blocking = false) override {
    core_.kept.keep_exact([&] { Base::to(dtype, non_blocking); });
  }

  /// The objective's inputs in the order of its card, then the target, each [N, ...] -> loss.
  template <class... Input>
  requires(std::is_convertible_v<Input, at::Tensor>&&...) at::Tensor
      forward(const at::Tensor& first, const Input&... rest) {
    return core_.loss({first, rest...}, this->is_training(), {});
  }
  /// The same where outliers are drawn, which go through `head`, the network's last layer.
  at::Tensor forward(const at::Tensor& logits, const at::Tensor& features, const at::Tensor& target,
                     const CriterionCore::Head& head) {
    return core_.loss({logits, features, target}, this->is_training(), head);
  }
  /// Of a formula: logits [B, C] or [B, C, ...]; target [B] or [B, ...], int64; weight like target
  /// or absent.
  at::Tensor forward(const at::Tensor& logits, const at::Tensor& target,
                     const std::optional<at::Tensor>& weight,
                     const std::optional<at::Tensor>& extras = std::nullopt) requires requires {
    Slice::kUses;
  }
  { return functional::LossFunction<Options>{}(logits, target, options, weight, extras); }

  /// The same for ID rows and outliers in batches of their own: logits_in [N, C], target_in [N],
  /// logits_out [M, C], which may be absent or empty.
  at::Tensor forward_two(const at::Tensor& logits_in, const at::Tensor& target_in,
                         const std::optional<at::Tensor>& logits_out = std::nullopt) {
    if (!logits_out.has_value() || !logits_out->defined() || logits_out->size(0) == 0)
      return forward(logits_in, target_in);
    const auto outlier = at::full({logits_out->size(0)}, -1, target_in.options());
    return forward(at::cat({logits_in, *logits_out}), at::cat({target_in, outlier}));
  }

  /// A tensor of the objective's state by its name, e.g. "centers.centers".
  at::Tensor state(std::string_view name) const { return core_.kept[name]; }
  /// Updates the state without gradient, as the training loop does; `inputs` and target of a step.
  /// forward() does it in training mode, for an event of epoch 0.
  void update(const Event& event, Tensors inputs = {}) { core_.update(inputs, event); }
  /// The update before training, of batches (inputs, target) or of inputs alone: DeepSVDDLoss and
  /// DeepSADLoss take their center, EnergyMarginLoss its cross-entropy.
  template <class Range>
  void begin(const Range& batches) {
    pass_over(Event::kBegin, batches);
  }
  /// The update at the end of an epoch: EnergyMarginLoss moves its multipliers.
  template <class Range>
  void end_epoch(const Range& batches) {
    pass_over(Event::kEpoch, batches);
  }
  /// embedding [N, D] -> distances [N, K] or [N] to what the objective keeps.
  at::Tensor distance(const at::Tensor& embedding) const { return core_.distance(embedding); }
  /// Class probabilities [N, K]: softmin of the distances.
  at::Tensor predict(const at::Tensor& embedding) const {
    const auto d = distance(embedding);
    TORCH_CHECK_VALUE(d.dim() == 2, Slice::kCard.name,
                      ": has no classes to predict, but one center; see distance");
    return d.neg().softmax(1);
  }
  /// Evidence for classes, logits and own score of a network's output.
  Readout readout(const NetworkOutput& output) const { return core_.readout(output); }

  Options options;

 private:
  template <class Range>
  void pass_over(Event::Kind kind, const Range& batches) {
    Event event;
    event.kind = kind;
    event.pass = [&](const auto& visit) {
      for (const auto& batch : batches) visit(batch);
    };
    update(event);
  }

  CriterionCore core_;
};

template <class Options>
class Criterion : public torch::nn::ModuleHolder<CriterionImpl<Options>> {
 public:
  using torch::nn::ModuleHolder<CriterionImpl<Options>>::ModuleHolder;
  using Impl = CriterionImpl<Options>;

  /// forward(); torch's own operator finds no function that has several forms.
  template <class... Argument>
  at::Tensor operator()(Argument&&... arguments) {
    return this->get()->forward(std::forward<Argument>(arguments)...);
  }
};

}  // namespace ood::nn
