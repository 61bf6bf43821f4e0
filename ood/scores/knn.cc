#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "ood/kernels/distance.h"
#include "ood/ops/by_type.h"
#include "ood/scores/fit_data.h"
#include "ood/scores/neighbours.h"
#include "ood/scores/register.h"

namespace ood {

struct Knn {
  static constexpr ScoreCard kCard{
      .name = "knn",
      .class_name = "KNN",
      .summary = "Distance to the k-th nearest training sample.",
      .formula = "||z' - z'_(k)||, z' = z / ||z||",
      .paper =
          "Sun, Ming, Zhu, Li: Out-of-Distribution Detection with Deep Nearest Neighbors, "
          "ICML 2022",
      .pitfalls = "With a bank that is a part of the data the best k is smaller in proportion.",
      .uses = ScoreCard::kFeatures,
      .fit = ScoreCard::kFeatures,
  };
  std::int64_t k = 50;

  static constexpr auto kParameters = std::array{
      Parameter<Knn>{"k", &Knn::k, 1, 1e6, "which neighbour", "the paper on CIFAR-10"},
  };
  static constexpr auto kState = std::array<std::string_view, 1>{"bank"};

  std::vector<at::Tensor> fit(const FitData& data) const {
    const auto bank = data.in_bank(data.normalized());
    TORCH_CHECK_VALUE(bank.size(0) >= k, "knn: expected at least k = ", k, " training rows, got ",
                      bank.size(0));
    return {bank};
  }

  // Below this many roundings of a product a square distance may be another neighbour's.
  static constexpr int kTight = 256;

  // The k-th least square distance by differences from all rows; NaN where one is.
  template <class F>
  static F exact_of(const F* query, const F* bank, std::int64_t rows, std::int64_t width,
                    std::int64_t k) {
    std::vector<F> d(static_cast<std::size_t>(rows));
    kernels::square_distances(query, 1, bank, rows, width, d.data(), rows);
    for (const F v : d)
      if (std::isnan(v)) return v;
    std::nth_element(d.begin(), d.begin() + (k - 1), d.end());
    return d[static_cast<std::size_t>(k - 1)];
  }

  // Unit vectors are nearer the larger their product. Its rounding would hide small distances, so
  // that the farthest of the k is found again by differences, among those it may be.
  at::Tensor compute(const NetworkOutput& o, Tensors state) const {
    const auto& bank = state[0];
    const auto z = unit_rows(o.features.to(bank.scalar_type())).contiguous();
    const auto [products, rows] = largest_products(z, bank, k);
    auto out = at::empty({z.size(0)}, z.options().dtype(at::kDouble));
    ops::by_type(z, "knn", [&, &near = products, &rows = rows](auto zero) {
      using F = decltype(zero);
      const auto width = z.size(1);
      const F rounding = 4 * std::numeric_limits<F>::epsilon() * std::sqrt(static_cast<F>(width));
      const F *pz = z.const_data_ptr<F>(), *pb = bank.const_data_ptr<F>(),
              *product = near.template const_data_ptr<F>();
      const auto* index = rows.template const_data_ptr<std::int64_t>();
      double* to = out.mutable_data_ptr<double>();
      at::parallel_for(0, z.size(0), 16, [&](std::int64_t begin, std::int64_t end) {
        for (auto i = begin; i < end; ++i) {
          const F* of_query = product + i * k;
          const F most = *std::min_element(of_query, of_query + k) + rounding;
          F farthest = 0;
          for (std::int64_t j = 0; j < k; ++j) {
            if (of_query[j] > most) continue;
            F d = 0;
            kernels::square_distances(pz + i * width, 1, pb + index[i * k + j] * width, 1, width,
                                      &d, 1);
            farthest = d <= farthest ? farthest : d;  // keeps NaN
          }
          if (farthest < kTight * std::numeric_limits<F>::epsilon())
            farthest = exact_of(pz + i * width, pb, bank.size(0), width, k);
          to[i] = std::sqrt(static_cast<double>(farthest));
        }
      });
    });
    return out;
  }
};
OOD_REGISTER_SCORE(Knn);

}  // namespace ood
