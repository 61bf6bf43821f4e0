// An objective in one file, as docs/adding-an-objective.md explains it: the objectosphere idea
// applied to the logits themselves.
#include "ood/registry/register.h"

namespace {

using namespace ood;

///   ID:  nll(x, y) + alpha max(0, xi - ||x||)^2        OOD:  uniform_nll(x) + alpha ||x||^2
struct LogitSphere {
  static constexpr Card kCard{
      .name = "logit_sphere",
      .class_name = "LogitSphereLoss",
      .summary = "Large logits for ID rows, small ones for outliers.",
      .formula =
          "ID: logsumexp(x) - x[y] + alpha max(0, xi - ||x||)^2;  "
          "OOD: logsumexp(x) - mean(x) + alpha ||x||^2",
      .paper = "an example",
      .score = "msp",
      .ood_labels = "outliers: pushed to logits of 0",
      .uses_ood = true,
      .balance = Balance::kWholeBatch,
  };
  static constexpr auto kTerms = std::array<std::string_view, 2>{"entropic", "magnitude"};
  static constexpr unsigned kUses = kNll | kUniformNll | kSquareNorm;
  static constexpr auto kExclusions =
      std::array{Exclusion{"masked_class", "the norm of a row with a class at -inf is infinite"}};

  double alpha = 1e-4;
  double xi = 50;

  static constexpr auto kParameters = std::array{
      Parameter<LogitSphere>{"alpha", &LogitSphere::alpha, 0, kInfinity, "weight of the magnitude",
                             "an example"},
      Parameter<LogitSphere>{"xi", &LogitSphere::xi, 0, kInfinity, "smallest norm of ID logits",
                             "an example"},
  };

  template <class Row, class Known>
  auto operator()(const Row& row, const Known& known) const {
    return terms(where(known, row.nll(), row.uniform_nll()),
                 alpha * where(known, square(relu(xi - root(row.sqnorm()))), row.sqnorm()));
  }
};

OOD_REGISTER(LogitSphere);

}  // namespace
