#include <ATen/TensorOperators.h>

#include "ood/scores/fit_data.h"
#include "ood/scores/neighbours.h"
#include "ood/scores/register.h"

namespace ood {

struct NnGuide {
  static constexpr ScoreCard kCard{
      .name = "nnguide",
      .class_name = "NNGuide",
      .summary = "The energy, guided by the nearest training samples weighted by theirs.",
      .formula = "-logsumexp(f) mean of the k largest z' (z'_i logsumexp(f_i)), z' = z / ||z||",
      .paper =
          "Park, Jung, Teoh: Nearest Neighbor Guidance for Out-of-Distribution Detection, "
          "ICCV 2023",
      .pitfalls =
          "The authors' bank is 1 % of the data, so that their k compares with a larger one "
          "here; pytorch-ood's default of k is 10.",
      .uses = ScoreCard::kFeatures,
      .fit = ScoreCard::kFeatures | ScoreCard::kHead,
  };
  std::int64_t k = 100;

  static constexpr auto kParameters = std::array{
      Parameter<NnGuide>{"k", &NnGuide::k, 1, 1e6, "how many neighbours", "OpenOOD"},
  };
  static constexpr auto kState = std::array<std::string_view, 3>{"weight", "bias", "bank"};

  std::vector<at::Tensor> fit(const FitData& data) const {
    const auto bank =
        data.in_bank(data.normalized()) * data.in_bank(data.head_logits()).logsumexp(1, true);
    TORCH_CHECK_VALUE(bank.size(0) >= k, "nnguide: expected at least k = ", k,
                      " training rows, got ", bank.size(0));
    auto state = data.head();
    state.push_back(bank);
    return state;
  }
  at::Tensor compute(const NetworkOutput& o, Tensors state) const {
    const auto energy = through_head(o.features.to(at::kDouble), state[0], state[1]).logsumexp(1);
    const auto near =
        largest_products(unit_rows(o.features.to(state[2].scalar_type())), state[2], k).first;
    return near.to(at::kDouble).mean(1).neg() * energy;
  }
};
OOD_REGISTER_SCORE(NnGuide);

}  // namespace ood
