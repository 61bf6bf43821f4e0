#include "ood/train/threshold_rule.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "ood/data/files.h"
#include "ood/errors.h"
#include "ood/registry/text.h"

namespace ood {
ThresholdRule threshold_rule(const std::optional<ThresholdRule>& stored, std::size_t held_out,
                             const AskedRule& asked) {
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

std::string to_text(const ThresholdRule& rule) {
  return nlohmann::ordered_json{{"false_alarms", rule.false_alarms},
                                {"confidence", rule.confidence}}
      .dump();
}

ThresholdRule rule_of_text(const std::string& text, const std::filesystem::path& where) {
  try {
    const auto j = parse_json(text);
    return {j.at("false_alarms").get<double>(), j.at("confidence").get<double>()};
  } catch (const nlohmann::json::exception&) {
    throw DataError(where.string() +
                    ": expected false_alarms and confidence, found other contents; set them again "
                    "with `ood threshold`");
  }
}

Threshold threshold_by(const ThresholdRule& rule, const std::vector<double>& held_out) {
  const auto share = [](const char* option, double v) {
    if (!(v > 0 && v < 1))
      throw UsageError(std::string("`") + option + "`: expected a share between 0 and 1, got " +
                       short_number(v));
  };
  if (held_out.empty())
    throw DataError(
        "the run has no held-out scores to set a threshold by; train with `validation`, or set it "
        "with `ood threshold --data`");
  share("false-alarms", rule.false_alarms);
  share("confidence", rule.confidence);
  const auto needed = held_out_needed(rule.false_alarms, rule.confidence);
  if (static_cast<std::int64_t>(held_out.size()) < needed)
    throw DataError("`false-alarms` " + short_number(rule.false_alarms) + ": expected at least " +
                    std::to_string(needed) + " held-out scores to promise it, the run has " +
                    std::to_string(held_out.size()) +
                    "; set it by more ID inputs with `ood threshold --data`, train with a larger "
                    "`validation` (of which a joint score takes half), or allow more false alarms");
  return threshold_for(held_out, rule.false_alarms, rule.confidence);
}

}  // namespace ood
