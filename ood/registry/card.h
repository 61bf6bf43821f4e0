#pragma once

#include <cstdint>
#include <string_view>

#include "ood/formula/formula.h"

namespace ood {

/// What an objective says of itself: documentation, flags, Python and generic tests are made of it.
struct Card {
  std::string_view name;        ///< of the command line, e.g. "outlier_exposure"
  std::string_view class_name;  ///< of the modules, e.g. "OutlierExposureLoss"
  std::string_view summary;     ///< one sentence
  std::string_view formula;     ///< as text
  std::string_view paper;
  std::string_view score;  ///< that fits a network trained with it: its own, or one of the registry
  std::string_view ood_labels;        ///< what happens to rows with a label below 0
  std::string_view input = "logits";  ///< what a row of the formula is, or what the objective takes
  std::string_view pitfalls = "";     ///< what users get wrong
  bool uses_ood = false;              ///< false: OOD rows take no part
  Balance balance = Balance::kPerPopulation;  ///< what Balance::kDefault means here
  bool ood_is_last_class = false;             ///< OOD rows get the label C - 1
  std::int64_t further_outputs = 0;           ///< outputs of the network beside the logits
  std::int64_t embedding = 0;    ///< width of the network's output it wants; 0: the classes
  bool without_bias = false;     ///< the network must not have biases
  bool trains_features = false;  ///< a part of the loss is on the features
  double learning_rate = 0.1;    ///< peak for SGD with momentum from random weights
  bool pretrained = false;       ///< random weights are first made an autoencoder's, see pretrain()
  /// Parameters that a training of the program sets, unless they are given, to the median energies
  /// of held-out ID data and of outliers after a short warm-up with cross-entropy.
  std::string_view id_energy = "", outlier_energy = "";
  /// A parameter that such a training divides by the number of classes unless it is given: the
  /// weight of a sum over classes.
  std::string_view weight_of_classes = "";
  bool classifies = true;  ///< false: all known classes are one
  bool per_row = true;     ///< false: a function of the batch; no "none", no "sum"
  /// In a training cross-entropy of the logits is added, weighted by the parameter of that name, or
  /// with 1 where it is "1"; empty: it is not. `own_weight` likewise weighs the objective itself.
  std::string_view cross_entropy_weight = "";
  std::string_view own_weight = "";
};

}  // namespace ood
