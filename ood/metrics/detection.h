#pragma once

#include <cstdint>
#include <span>
#include <vector>

/// How well a score tells OOD from ID samples. Scores are higher for OOD. All figures are exact:
/// ties count one half in the AUROC, and equal scores form one point of every curve. O(n log n).
/// Both populations must have a sample and no score may be NaN; otherwise std::invalid_argument.
namespace ood {

struct Detection {
  double auroc;     ///< P(score of OOD > score of ID) + P(equal) / 2
  double aupr_in;   ///< average precision with ID as the positive class
  double aupr_out;  ///< average precision with OOD as the positive class
  double fpr95;     ///< share of OOD samples accepted when at least 95 % of the ID samples are
  /// Share of ID samples rejected when at least 95 % of the OOD samples are: what OpenOOD and
  /// pytorch-ood print as FPR95.
  double fpr95_ood;
  double error;  ///< detection error: the least mean of both shares of errors over all thresholds
};
Detection detection(std::span<const double> id, std::span<const double> ood);

struct Interval {
  double low, high;
};
/// 95 % percentile interval of the AUROC over `replicates` stratified bootstrap samples, of an AUROC of
/// 1 or 0, whose samples are all alike, that of Newcombe (Statistics in Medicine 25, 2006); a function
/// of its arguments alone. From kManySamples on by the variance of DeLong, DeLong and
/// Clarke-Pearson (1988) and a normal distribution, which takes no longer than sorting.
inline constexpr std::size_t kManySamples = 200000;
Interval auroc_interval(std::span<const double> id, std::span<const double> ood, std::uint64_t seed,
                        int replicates = 500);

/// 95 % interval of the difference of the AUROCs of two scores a and b of the same samples, by
/// bootstrap samples common to both, or DeLong's covariance. It holds 0 where neither is shown to be better.
Interval auroc_difference(std::span<const double> id_a, std::span<const double> ood_a,
                          std::span<const double> id_b, std::span<const double> ood_b,
                          std::uint64_t seed, int replicates = 500);

/// Points (share of ID rejected, share of OOD rejected) from (0, 0) to (1, 1), at most max_points >= 2.
struct CurvePoint {
  double x, y;
};
std::vector<CurvePoint> roc_curve(std::span<const double> id, std::span<const double> ood,
                                  int max_points = 200);

/// The smallest threshold at which at least `share`, 0 to 1, of the scores are <= it.
double threshold_at(std::span<const double> scores, double share);

}  // namespace ood
