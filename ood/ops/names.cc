#include "ood/nn/loss_options.h"

namespace ood::nn {

std::string_view name(Reduction reduction) {
  switch (reduction) {
    case Reduction::kNone:
      return "none";
    case Reduction::kSum:
      return "sum";
    default:
      return "mean";
  }
}

std::string_view name(Balance balance) {
  switch (balance) {
    case Balance::kPerPopulation:
      return "per_population";
    case Balance::kWholeBatch:
      return "whole_batch";
    default:
      return "default";
  }
}

}  // namespace ood::nn
