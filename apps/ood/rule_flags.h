#pragma once

#include <CLI/CLI.hpp>
#include <optional>

#include "ood/errors.h"
#include "ood/registry/text.h"
#include "ood/train/threshold_rule.h"

namespace ood::app {

/// The flags of a threshold: --false-alarms, --tpr as its old name, --confidence.
class RuleFlags {
 public:
  void add(CLI::App& command) {
    auto* alarms =
        command
            .add_option("--false-alarms", false_alarms_,
                        "share of ID inputs that may be rejected; default: what "
                        "`ood threshold` stored, else 0.05 or the least that can be promised")
            ->type_name("X");
    command.add_option("--tpr", tpr_, "old name: 1 - X is --false-alarms")
        ->type_name("X")
        ->excludes(alarms);
    command
        .add_option("--confidence", confidence_,
                    "with which that holds over the draw of the held-out data; default: what was "
                    "stored, else 0.95")
        ->type_name("X");
  }

  AskedRule asked() const {
    if (tpr_ && !(*tpr_ > 0 && *tpr_ < 1))
      throw UsageError("--tpr: expected a share between 0 and 1, got " + short_number(*tpr_) +
                       "; that all ID inputs are accepted cannot be promised");
    return {tpr_ ? std::optional(1 - *tpr_) : false_alarms_, confidence_};
  }

 private:
  std::optional<double> false_alarms_, tpr_, confidence_;
};

}  // namespace ood::app
