#pragma once

#include "ood/ops/dispatch.h"
#include "ood/ops/row_values.h"

namespace ood::ops {

/// A loss that is no formula of one row, with its gradient written out: the two are computed
/// together, where the graph of a dozen small operations would cost more than they do. Those of
/// objectives are in the registry; this is for further forms of them.
struct DirectLoss {
  std::string_view name;
  std::size_t inputs, target, numbers, terms;  ///< counts, and which input has the labels
  std::vector<Term> (*composite)(Numbers, Tensors);
  Parts (*parts)(Numbers, Tensors, bool sum, std::int64_t wanted);  ///< see SliceEntry
};

/// Differentiable. inputs[0] decides on device and type; other floating inputs are brought to it,
/// half types are computed in float32. Shapes and labels are the caller's to check.
Losses direct_loss(const DirectLoss& loss, Tensors inputs, Numbers numbers, Reduction reduction,
                   const TermOptions& options = {});

/// The same of an objective, of what its prepare() gives.
Losses direct_loss(std::string_view objective, Tensors prepared, Numbers parameters,
                   Reduction reduction, const TermOptions& options = {});

/// Enters a loss of static storage into the list that its op reads. To be called when the library
/// is loaded, so that a saved graph finds it by name. Returns true.
bool register_direct_loss(const DirectLoss& loss);

/// The labels as int64. A target of a floating type is a TypeError that names the objective.
at::Tensor class_labels(const at::Tensor& target, std::string_view objective);

/// A ValueError that names objective and argument where `t` has more or less than one number.
void check_one_number(const at::Tensor& t, std::string_view objective, std::string_view argument);

/// A scalar of the type of `like`.
template <class F>
at::Tensor scalar(double value, const at::Tensor& like) {
  auto t = at::empty({}, like.options());
  *t.template mutable_data_ptr<F>() = static_cast<F>(value);
  return t;
}

}  // namespace ood::ops
