#include "ood/train/threshold_rule.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "ood/data/files.h"
#include "ood/errors.h"
#include "ood/registry/text.h"

namespace ood {
namespace {

std::filesystem::path rule_file(const std::filesystem::path& folder) {
  return folder / "threshold.json";
}

std::optional<ThresholdRule> stored_rule(const std::filesystem::path& folder) {
  if (!std::filesystem::exists(rule_file(folder))) return std::nullopt;
  constexpr std::uint64_t kLargest = 1 << 16;
  const auto j = parse_json(read_text(rule_file(folder), kLargest));
  try {
    return ThresholdRule{j.at("false_alarms").get<double>(), j.at("confidence").get<double>()};
  } catch (const nlohmann::json::exception&) {
    throw DataError(rule_file(folder).string() +
                    ": expected false_alarms and confidence, found other contents; set them again "
                    "with `ood threshold`");
  }
}

}  // namespace

ThresholdRule threshold_rule(const std::filesystem::path& folder, std::size_t held_out,
                             const AskedRule& asked) {
  const auto stored = stored_rule(folder);
  ThresholdRule rule = stored.value_or(ThresholdRule{});
  if (asked.confidence) rule.confidence = *asked.confidence;
  if (asked.false_alarms)
    rule.false_alarms = *asked.false_alarms;
  else if (!stored && held_out > 0 && rule.confidence > 0 && rule.confidence < 1)
    rule.false_alarms =
        std::max(rule.false_alarms,
                 least_false_alarms(static_cast<std::int64_t>(held_out), rule.confidence));
  return rule;
}

std::filesystem::path write_threshold_rule(const std::filesystem::path& folder,
                                           const ThresholdRule& rule) {
  const nlohmann::ordered_json j = {{"false_alarms", rule.false_alarms},
                                    {"confidence", rule.confidence}};
  write_file(rule_file(folder), j.dump(1) + "\n");
  return rule_file(folder);
}

Threshold threshold_by(const ThresholdRule& rule, const std::vector<double>& held_out) {
  const auto share = [](const char* option, double v) {
    if (!(v > 0 && v < 1))
      throw UsageError(std::string("`") + option + "`: expected a share between 0 and 1, got " +
                       short_number(v));
  };
  if (held_out.empty())
    throw DataError(
        "the run has no held-out scores to set a threshold by; train with `validation`");
  share("false-alarms", rule.false_alarms);
  share("confidence", rule.confidence);
  const auto needed = held_out_needed(rule.false_alarms, rule.confidence);
  if (static_cast<std::int64_t>(held_out.size()) < needed)
    throw DataError("`false-alarms` " + short_number(rule.false_alarms) + ": expected at least " +
                    std::to_string(needed) + " held-out scores to promise it, the run has " +
                    std::to_string(held_out.size()) +
                    " (of a joint score half of what is held out); train with a larger "
                    "`validation`, or allow more false alarms");
  return threshold_for(held_out, rule.false_alarms, rule.confidence);
}

}  // namespace ood
