// The reduced loss and its gradient in one pass over the logits. What reaches a reduced loss from
// above is one number, so its gradient is known up to that factor as soon as the loss is.
#include <atomic>

#include "ood/ops/row_blocks.h"

namespace ood::ops {
namespace {

// What each population's terms are multiplied with.
template <class F>
std::vector<F> population_weights(const std::array<std::int64_t, 2>& counts, Reduction reduction,
                                  std::size_t terms) {
  std::vector<F> out;
  for (const std::int64_t own : counts) {
    const std::int64_t count = reduction == Reduction::kSum                 ? 1
                               : reduction == Reduction::kMeanPerPopulation ? own
                                                                            : counts[0] + counts[1];
    out.insert(out.end(), terms, F{1} / static_cast<F>(std::max<std::int64_t>(count, 1)));
  }
  return out;
}

template <class S>
LossParts loss_parts(const ObjectiveEntry& entry, const RowTermsArguments& a, Reduction reduction,
                     const WantedGradients& want) {
  using F = Computing<S>;
  const Input<S> in(entry, a);
  const StatisticsLayout layout(entry.row);
  const auto terms = static_cast<std::int64_t>(entry.terms.size());
  // Counting is a pass over the labels of its own; a sum, or a mean over all rows, can do without.
  const bool known_count = reduction == Reduction::kSum ||
                           (reduction == Reduction::kMeanWholeBatch && !a.ignore_index.has_value());
  const auto counts = known_count ? std::array<std::int64_t, 2>{in.rows, 0} : count_rows(in);
  std::atomic<bool> no_class{false};
  const auto weights = population_weights<F>(counts, reduction, entry.terms.size());
  std::vector<double> sums(static_cast<std::size_t>(in.blocks.count * 2 * terms), 0.0);
  LossParts out;
  if (want.any()) {
    const Gradients<S> gradients(in, want.extras, want.weight);
    for_each_block(in, [&](std::int64_t b, const Block& block, Scratch<F>& scratch) {
      const auto statistics = scratch.own_statistics(layout);
      BlockPass<S> pass(in, block, scratch);
      const auto stored = gradients.part(in, b);
      const auto room = pass.gradient_room(stored);
      if (pass.has_label_of_no_class()) no_class = true;
      pass.statistics(statistics, &room);
      pass.coefficients(statistics, {weights.data(), 0, false}, gradients.to_weight,
                        gradients.to_extras, sums.data() + b * 2 * terms);
      pass.gradient(statistics, room, stored);
    });
    out.logits = gradients.logits;
    out.extras = gradients.extras;
    out.weight = gradients.weight;
  } else {
    for_each_block(in, [&](std::int64_t b, const Block& block, Scratch<F>& scratch) {
      const auto statistics = scratch.own_statistics(layout);
      BlockPass<S> pass(in, block, scratch);
      if (pass.has_label_of_no_class()) no_class = true;
      pass.statistics(statistics, nullptr);
      evaluator<F>(entry.row).forward(
          a.parameters.data(), pass.formula(statistics),
          ForwardResult<F>{sums.data() + b * 2 * terms, nullptr, in.rows});
    });
  }
  if (no_class) count_rows(in);  // says which
  double loss = 0;
  const auto total = add_up(sums, 2 * terms);
  for (std::size_t i = 0; i < total.size(); ++i) loss += total[i] * static_cast<double>(weights[i]);
  out.loss = at::empty({}, a.logits.options().dtype(computing_type(a.logits)));
  *out.loss.template mutable_data_ptr<F>() = static_cast<F>(loss);
  return out;
}

}  // namespace

LossParts row_loss_cpu(const RowTermsArguments& a, Reduction reduction,
                       const WantedGradients& want) {
  const ObjectiveEntry& entry = get_objective(a.objective);
  check_inputs(entry, a.logits, a.target, a.extras, a.weight);
  check_parameters(entry, a.parameters.data(), a.parameters.size());
  return by_logits_type(a.logits,
                        [&](auto s) { return loss_parts<decltype(s)>(entry, a, reduction, want); });
}

}  // namespace ood::ops
