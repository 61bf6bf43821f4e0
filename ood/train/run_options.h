#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace ood {

/// Everything that determines a training. visit_options() is the one list of its fields: command
/// line, configuration file and report are made from it.
struct RunOptions {
  std::string data = "fashion-mnist";
  std::string known, outliers, unknown;
  std::vector<std::string> ood_data;
  double validation = 0.1;
  std::int64_t limit_train = 0, limit_test = 0;

  std::string model = "small-cnn";
  std::string objective = "cross_entropy";
  std::int64_t epochs = 3;
  std::int64_t batch_size = 128;
  double outlier_ratio = 0.5;
  double lr = 0;
  double momentum = 0.9;
  double weight_decay = 5e-4;
  double warmup = 0.05;
  double mixup = 0, cutmix = 0;
  std::int64_t seed = 0;
  std::int64_t threads = 0;

  /// Parameters by objective: those that were set, and after resolve() all of the objective's.
  std::map<std::string, std::map<std::string, double>> parameters;

  /// The objective's parameters in the order of its table, defaults where nothing was set.
  std::vector<double> objective_parameters() const;
  /// Fills in the objective's defaults, and checks every value; UsageError.
  void resolve();
};

template <class Visitor>
void visit_options(RunOptions& o, Visitor&& v) {
  v("data", o.data, "fashion-mnist, or a folder of idx files");
  v("known", o.known, "classes to learn, e.g. 0,1,2 or 0-4; default: those in no other list");
  v("outliers", o.outliers, "classes used as outliers in training");
  v("unknown", o.unknown, "classes kept for the test, never trained with");
  v("ood-data", o.ood_data, "a further OOD test set NAME=PATH; may be repeated");
  v("validation", o.validation, "share of the training data held out");
  v("limit-train", o.limit_train, "at most N training samples, and N outliers; 0: all");
  v("limit-test", o.limit_test, "at most N samples a test set; 0: all");
  v("model", o.model, "network: small-cnn or mlp");
  v("objective", o.objective, "training objective, see `ood objectives`");
  v("epochs", o.epochs, "passes over the training data");
  v("batch-size", o.batch_size, "ID samples a step");
  v("outlier-ratio", o.outlier_ratio, "outliers a step for each ID sample");
  v("lr", o.lr, "peak learning rate; 0: what suits the objective, mostly 0.1");
  v("momentum", o.momentum, "Nesterov momentum");
  v("weight-decay", o.weight_decay, "weight decay");
  v("warmup", o.warmup, "share of the steps over which the learning rate rises");
  v("mixup", o.mixup, "mix ID samples, lambda ~ Beta(X, X); 0: off");
  v("cutmix", o.cutmix, "exchange rectangles of ID pictures, area ~ Beta(X, X); 0: off");
  v("seed", o.seed, "seed of weights, divisions and order");
  v("threads", o.threads, "threads; 0: one a processor");
}

/// As TOML text; the other way round for a run's config.toml. DataError names file and line.
std::string to_toml(const RunOptions& options);
RunOptions read_config(const std::filesystem::path& path);

}  // namespace ood
