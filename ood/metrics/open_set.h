#pragma once

#include <cstdint>
#include <span>

/// What a classifier with a score for rejection is worth as a whole. Scores are higher for OOD;
/// equal scores form one point. std::invalid_argument for NaN, for an empty population, or for
/// lengths that differ.
namespace ood {

struct OpenSet {
  double oscr;   ///< area under the correct classification rate over the false positive rate
  double aurc;   ///< area under the risk-coverage curve; errors and OOD samples are failures
  double augrc;  ///< area under the generalised one (Traub et al., NeurIPS 2024)
  /// Correct classification rate, the share of ID samples that are accepted and classified right,
  /// where at most a share of 0.001, 0.01, 0.1 of the OOD samples is accepted.
  double ccr_at_fpr[3];
};
inline constexpr double kCcrRates[] = {1e-3, 1e-2, 1e-1};

/// `correct` [N]: whether each ID sample is classified right. (Dhamija, Guenther, Boult,
/// NeurIPS 2018.)
OpenSet open_set(std::span<const double> id, std::span<const std::uint8_t> correct,
                 std::span<const double> ood);

struct Calibration {
  double nll;    ///< mean negative log-likelihood, nats
  double brier;  ///< mean squared distance of probabilities and one-hot label
  double ece;    ///< expected calibration error, bins of equal mass
};
/// Of log-probabilities [N * K], row by row, and labels [N] below K.
Calibration calibration(std::span<const double> log_probabilities,
                        std::span<const std::int64_t> labels, int bins = 15);

}  // namespace ood
