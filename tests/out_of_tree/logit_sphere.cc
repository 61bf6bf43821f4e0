// An objective in one file, as docs/adding-an-objective.md explains it: the objectosphere idea
// applied to the logits themselves.
#include "ood/objectives/register.h"

namespace {

using namespace ood;

///   ID:  nll(x, y) + alpha max(0, xi - ||x||)^2        OOD:  uniform_nll(x) + alpha ||x||^2
struct LogitSphere {
  static constexpr std::string_view kName = "logit_sphere";
  static constexpr std::string_view kClassName = "LogitSphereLoss";
  static constexpr std::string_view kSummary = "Large logits for ID rows, small ones for outliers.";
  static constexpr std::string_view kFormula =
      "ID: logsumexp(x) - x[y] + alpha max(0, xi - ||x||)^2;  "
      "OOD: logsumexp(x) - mean(x) + alpha ||x||^2";
  static constexpr std::string_view kPaper = "an example";
  static constexpr std::string_view kScore = "msp";
  static constexpr std::string_view kOodLabels = "outliers: pushed to logits of 0";
  static constexpr auto kTerms = std::array<std::string_view, 2>{"entropic", "magnitude"};
  static constexpr unsigned kUses = kNll | kUniformNll | kSquareNorm;
  static constexpr bool kUsesOod = true;
  static constexpr Balance kBalance = Balance::kWholeBatch;
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

OOD_REGISTER_FORMULA(LogitSphere);

}  // namespace
