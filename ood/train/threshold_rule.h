#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "ood/metrics/threshold.h"

namespace ood {

/// Which threshold a run uses: at most a share `false_alarms` of ID inputs is rejected, with that
/// confidence over the draw of the held-out data. Stored with the model, where it changes without
/// another training.
struct ThresholdRule {
  double false_alarms = 0.05;
  double confidence = 0.95;
};

/// What a caller asks for; the rest is as stored with the model, else by default.
struct AskedRule {
  std::optional<double> false_alarms{}, confidence{};
  bool any() const { return false_alarms || confidence; }
};

/// The rule of a run with so many held-out scores. Where nothing is asked or stored and they are
/// too few for the default, the least share of false alarms that they can promise.
ThresholdRule threshold_rule(const std::optional<ThresholdRule>& stored, std::size_t held_out,
                             const AskedRule& asked = {});

/// As text of the file `where`, and back; DataError where it is damaged.
std::string to_text(const ThresholdRule& rule);
ThresholdRule rule_of_text(const std::string& text, const std::filesystem::path& where);

/// By the held-out scores of a run. UsageError where a share is none; DataError where there are too
/// few scores, with how many are needed.
Threshold threshold_by(const ThresholdRule& rule, const std::vector<double>& held_out);

}  // namespace ood
