// The reduced loss and its gradient in one pass over the logits, or two where terms are combined
// of means that the first one found. What reaches a reduced loss from above is one number, so its
// gradient is known up to that factor as soon as the loss is.
#include <ATen/EmptyTensor.h>

#include <atomic>

#include "ood/ops/row_blocks.h"

namespace ood::ops {
namespace {

// What each population's sums are multiplied with.
template <class F>
std::vector<F> population_weights(const std::array<std::int64_t, 2>& counts, bool sum,
                                  Balance balance, std::size_t terms) {
  std::vector<F> out;
  out.reserve(2 * terms);
  for (const std::int64_t own : counts) {
    const auto count = balance == Balance::kWholeBatch ? counts[0] + counts[1] : own;
    out.insert(out.end(), terms, static_cast<F>(mean_factor(sum, count)));
  }
  return out;
}

// How the sums [2, T] become the terms [T]: weighted and added up, or as the objective combines the
// means that they give.
template <class F>
class Reducer {
 public:
  Reducer(const ObjectiveEntry& entry, const double* parameters,
          const std::array<std::int64_t, 2>& counts, bool sum, Balance balance)
      : row_(entry.row),
        parameters_(parameters),
        size_(entry.terms.size()),
        weights_(population_weights<F>(
            counts, sum, row_.combine_means != nullptr ? Balance::kPerPopulation : balance, size_)),
        means_{std::vector<double>(2 * size_, 0.0), counts[0] > 0 && counts[1] > 0} {
    if (row_.combine_means != nullptr) row_.combine_means(parameters_, means_, combined_);
  }

  // What the gradient of each sum is, where they combine at the means of the last call of terms(),
  // or of 0 before the first.
  std::vector<F> gradient(double upstream) const {
    auto scaled = weights_;
    for (std::size_t i = 0; i < scaled.size(); ++i) {
      if (row_.combine_means != nullptr) scaled[i] *= static_cast<F>(combined_.derivatives[i]);
      scaled[i] *= static_cast<F>(upstream);
    }
    return scaled;
  }

  std::vector<double> terms(const std::vector<double>& sums) {
    for (std::size_t i = 0; i < sums.size(); ++i)
      means_.values[i] = sums[i] * static_cast<double>(weights_[i]);
    if (row_.combine_means != nullptr) {
      row_.combine_means(parameters_, means_, combined_);
      return combined_.terms;
    }
    std::vector<double> out;
    out.reserve(size_);
    for (std::size_t t = 0; t < size_; ++t)
      out.push_back(means_.values[t] + means_.values[size_ + t]);
    return out;
  }

 private:
  const FormulaEntry& row_;
  const double* parameters_;
  std::size_t size_;
  std::vector<F> weights_;
  BatchMeans means_;
  CombinedMeans combined_;
};

// Sums of the terms [2, T].
template <class S>
std::vector<double> sums_alone(const Input<S>& in, std::atomic<bool>& no_class) {
  using F = Computing<S>;
  const StatisticsLayout layout(in.entry.row);
  const auto size = static_cast<std::int64_t>(2 * in.entry.terms.size());
  std::vector<double> sums(static_cast<std::size_t>(in.blocks.count * size), 0.0);
  for_each_block(in, [&](std::int64_t b, const Block& block, Scratch<F>& scratch) {
    const auto statistics = scratch.own_statistics(layout);
    BlockPass<S> pass(in, block, scratch);
    if (pass.has_label_of_no_class()) no_class = true;
    pass.statistics(statistics, nullptr);
    evaluator<F>(in.entry.row)
        .forward(in.args.parameters.data(), pass.formula(statistics),
                 ForwardResult<F>{sums.data() + b * size, nullptr, in.rows});
  });
  return add_up(std::move(sums), size);
}

// The same with the gradients, whose weights [2, T] are known.
template <class S>
std::vector<double> sums_and_gradients(const Input<S>& in, const std::vector<Computing<S>>& weights,
                                       const Gradients<S>& to, std::atomic<bool>& no_class) {
  using F = Computing<S>;
  const StatisticsLayout layout(in.entry.row);
  const auto size = static_cast<std::int64_t>(weights.size());
  std::vector<double> sums(static_cast<std::size_t>(in.blocks.count * size), 0.0);
  for_each_block(in, [&](std::int64_t b, const Block& block, Scratch<F>& scratch) {
    const auto statistics = scratch.own_statistics(layout);
    BlockPass<S> pass(in, block, scratch);
    const auto stored = to.part(in, b);
    const auto room = pass.gradient_room(stored);
    if (pass.has_label_of_no_class()) no_class = true;
    pass.statistics(statistics, &room);
    pass.coefficients(statistics, {weights.data(), 0, false}, to.to_weight, to.to_extras,
                      sums.data() + b * size);
    pass.gradient(statistics, room, stored);
  });
  return add_up(std::move(sums), size);
}

template <class S>
LossParts loss_parts(const ObjectiveEntry& entry, const RowTermsArguments& a, bool sum,
                     Balance balance, const WantedGradients& want, double upstream) {
  using F = Computing<S>;
  const Input<S> in(entry, a);
  // Counting is a pass over the labels of its own; a sum, or a mean over all rows, can do without.
  const bool known_count = sum || (balance == Balance::kWholeBatch && !a.ignore_index.has_value());
  const auto counts = known_count && entry.row.combine_means == nullptr
                          ? std::array<std::int64_t, 2>{in.rows, 0}
                          : count_rows(in);
  std::atomic<bool> no_class{false};
  Reducer<F> reducer(entry, a.parameters.data(), counts, sum, balance);
  LossParts out;
  std::vector<double> terms;
  if (want.any()) {
    const Gradients<S> gradients(in, want.extras, want.weight);
    const auto weights = reducer.gradient(upstream);
    terms = reducer.terms(sums_and_gradients(in, weights, gradients, no_class));
    // Combined, the weights depend on the means; a hinge has those that were assumed until it is
    // satisfied.
    if (entry.row.combine_means != nullptr)
      if (const auto now = reducer.gradient(upstream); now != weights)
        sums_and_gradients(in, now, gradients, no_class);
    out.logits = gradients.logits;
    out.extras = gradients.extras;
    out.weight = gradients.weight;
  } else {
    terms = reducer.terms(sums_alone(in, no_class));
  }
  if (no_class) count_rows(in);  // says which
  const auto type = computing_type(a.logits);
  out.loss = at::detail::empty_cpu({}, type);
  out.terms = at::detail::empty_cpu({static_cast<std::int64_t>(terms.size())}, type);
  F* term = out.terms.template mutable_data_ptr<F>();
  double loss = 0;
  for (const double value : terms) {
    *term++ = static_cast<F>(value);
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
