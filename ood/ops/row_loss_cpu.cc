// The reduced loss and its gradient in one pass over the logits. What reaches a reduced loss from
// above is one number, so its gradient is known up to that factor as soon as the loss is.
#include <atomic>

#include "ood/ops/row_blocks.h"

namespace ood::ops {
namespace {

// What each population's terms are multiplied with.
template <class F>
std::vector<F> population_weights(const std::array<std::int64_t, 2>& counts, bool sum,
                                  Balance balance, std::size_t terms) {
  std::vector<F> out;
  for (const std::int64_t own : counts) {
    const auto count = balance == Balance::kWholeBatch ? counts[0] + counts[1] : own;
    out.insert(out.end(), terms, static_cast<F>(mean_factor(sum, count)));
  }
  return out;
}

template <class S>
LossParts loss_parts(const ObjectiveEntry& entry, const RowTermsArguments& a, bool sum,
                     Balance balance, const WantedGradients& want, double upstream) {
  using F = Computing<S>;
  const Input<S> in(entry, a);
  const StatisticsLayout layout(entry.row);
  const auto terms = static_cast<std::int64_t>(entry.terms.size());
  // Counting is a pass over the labels of its own; a sum, or a mean over all rows, can do without.
  const bool known_count = sum || (balance == Balance::kWholeBatch && !a.ignore_index.has_value());
  const auto counts = known_count ? std::array<std::int64_t, 2>{in.rows, 0} : count_rows(in);
  std::atomic<bool> no_class{false};
  const auto weights = population_weights<F>(counts, sum, balance, entry.terms.size());
  std::vector<double> sums(static_cast<std::size_t>(in.blocks.count * 2 * terms), 0.0);
  LossParts out;
  if (want.any()) {
    auto scaled = weights;
    for (F& w : scaled) w *= static_cast<F>(upstream);
    const Gradients<S> gradients(in, want.extras, want.weight);
    for_each_block(in, [&](std::int64_t b, const Block& block, Scratch<F>& scratch) {
      const auto statistics = scratch.own_statistics(layout);
      BlockPass<S> pass(in, block, scratch);
      const auto stored = gradients.part(in, b);
      const auto room = pass.gradient_room(stored);
      if (pass.has_label_of_no_class()) no_class = true;
      pass.statistics(statistics, &room);
      pass.coefficients(statistics, {scaled.data(), 0, false}, gradients.to_weight,
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
  const auto total = add_up(sums, 2 * terms);
  const auto options = a.logits.options().dtype(computing_type(a.logits));
  out.loss = at::empty({}, options);
  out.terms = at::empty({terms}, options);
  F* term = out.terms.template mutable_data_ptr<F>();
  double loss = 0;
  for (std::size_t t = 0; t < entry.terms.size(); ++t) {
    const double id = total[t] * static_cast<double>(weights[t]);
    const std::size_t other = entry.terms.size() + t;
    const double value = id + total[other] * static_cast<double>(weights[other]);
    term[t] = static_cast<F>(value);
    loss += value;
  }
  *out.loss.template mutable_data_ptr<F>() = static_cast<F>(loss);
  return out;
}

}  // namespace

LossParts row_loss_cpu(const RowTermsArguments& a, bool sum, Balance balance,
                       const WantedGradients& want, double upstream) {
  const ObjectiveEntry& entry = get_objective(a.objective);
  check_inputs(entry, a.logits, a.target, a.extras, a.weight);
  check_parameters(entry.name, entry.parameters, a.parameters);
  return by_logits_type(a.logits, [&](auto s) {
    return loss_parts<decltype(s)>(entry, a, sum, balance, want, upstream);
  });
}

}  // namespace ood::ops
