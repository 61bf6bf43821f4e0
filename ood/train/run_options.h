#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "ood/data/augment.h"
#include "ood/data/dataset.h"
#include "ood/data/synthetic_outliers.h"
#include "ood/models/network_names.h"

namespace ood {

inline constexpr std::int64_t kMegabyte = 1'000'000;

/// Everything that determines a training. visit_options() is the one list of its fields: command
/// line, configuration file and report are made from it.
struct RunOptions {
  std::string data = "fashion-mnist";
  std::string known, outliers, unknown;
  std::vector<std::string> ood_data;
  double validation = 0.1;
  std::int64_t limit_train = 0, limit_test = 0;
  std::int64_t image_size = 0;
  std::string resize = "squash";
  bool strict = false;
  std::int64_t max_pixels = kMaxPixels;
  std::string alpha = "black";
  std::int64_t cache = PictureOptions::kCache / kMegabyte;
  std::int64_t decoders = 0;
  std::string synthetic_outliers;

  std::string model = "auto";
  std::string init, weights;
  std::string normalise = "auto";
  bool freeze = false;
  std::string objective = "cross_entropy";
  std::int64_t pretrain = -1;
  std::int64_t epochs = 0;
  std::int64_t batch_size = 0;
  double outlier_ratio = 0.5;
  bool class_balance = false;
  std::string optimizer = "sgd";
  double lr = 0;
  double backbone_lr = 0;
  double momentum = 0.9;
  double weight_decay = 5e-4;
  double warmup = 0.05;
  double clip = 1;
  std::int64_t accumulate = 1;
  std::int64_t patience = 0;
  std::string device = "cpu";
  std::string precision = "float32";
  bool sync_batchnorm = false;
  std::string augment;
  double mixup = 0, cutmix = 0;
  std::int64_t checkpoint = 0;
  std::int64_t bank = 0;
  std::string score = "auto";
  std::int64_t seed = 0;
  std::int64_t split_seed = -1;
  std::int64_t threads = 0;

  /// Of the data that the run was trained and tested with; no flags. "": unknown.
  std::string data_fingerprint, test_fingerprint;
  /// Of the file of a network of the user's own, or of `weights`.
  std::string network_fingerprint;
  /// Of the launcher that may start the training again, see Environment; "": none.
  std::string launch;
  /// Parameters of the objective that the training measured.
  std::vector<std::string> measured;

  /// Parameters by objective: those that were set, and after resolve() all of the objective's.
  std::map<std::string, std::map<std::string, double>> parameters;

  /// Parameters of the objective that resolve() has filled in.
  std::set<std::string> by_default;

  /// The objective's parameters in the order of its table, defaults where nothing was set.
  std::vector<double> objective_parameters() const;
  /// Fills in the objective's defaults, and checks every value; UsageError.
  void resolve();
  /// Paths as they are found from any folder; `outliers` is one, or names classes.
  void make_absolute(bool outliers_are_path);
};

/// How pictures are read for it.
PictureOptions picture_options(const RunOptions& options);

/// What an option means, with other options in backquotes, and what a number may be.
struct OptionHelp {
  std::string text;
  double low = 0, high = std::numeric_limits<float>::max();

  /// "0 to 1", "at least 0"; what is larger than that only has to be a number that can be stored.
  std::string range() const;
};

template <class Visitor>
void visit_options(RunOptions& o, Visitor&& v) {
  v("data", o.data,
    {"fashion-mnist; a folder: pictures by class, idx, CIFAR binary, .npy, .tar; or a file .csv, "
     ".jsonl, .npz, .tar"});
  v("known", o.known, {"classes to learn, e.g. 0,2-4,boot; default: those in no other list"});
  v("outliers", o.outliers, {"classes used as outliers in training, or a path to them"});
  v("synthetic-outliers", o.synthetic_outliers,
    {"made ones: " + synthetic_outlier_kinds() + "; of embeddings " +
     synthetic_outlier_kinds(/*embeddings=*/true)});
  v("unknown", o.unknown, {"classes kept for the test, never trained with"});
  v("ood-data", o.ood_data, {"a further OOD test set, [near:|far:]NAME=PATH; may be repeated"});
  v("validation", o.validation, {"share of the training data held out", 0, 0.9});
  v("limit-train", o.limit_train, {"at most N training samples, and N outliers; 0: all", 0, 1e15});
  v("limit-test", o.limit_test, {"at most N samples a test set; 0: all", 0, 1e15});
  v("image-size", o.image_size, {"bring pictures to N x N; 0: as they are", 0, 4096});
  v("resize", o.resize, {"to that size: squash, or crop: the short side to N, then the middle"});
  v("strict", o.strict, {"refuse a picture that does not decode instead of leaving it out"});
  v("max-pixels", o.max_pixels, {"a picture of more does not decode", 1, 1 << 30});
  v("alpha", o.alpha, {"what shows where a picture is transparent: black, white or RRGGBB"});
  v("cache", o.cache,
    {"MB of decoded pictures a data set may hold in memory; larger sets stay files", 0, 1e9});
  v("decoders", o.decoders,
    {"threads that decode pictures ahead of the step; 0: those of the step, before it", 0, 1024});
  v("model", o.model,
    {"network: " + network_names() +
     ", or FILE.pt of your own, or FILE.pt2, which stays as it is; auto: by the data"});
  v("init", o.init, {"start from the weights of this run (fine-tuning)"});
  v("weights", o.weights,
    {"start from those of FILE.safetensors, named as in `model`; torchvision's for resnet-18, -34 "
     "and -50"});
  v("normalise", o.normalise,
    {"mean and deviation of pictures: data, imagenet or half; auto: by the training data, imagenet "
     "with `weights` of a resnet-18, -34 or -50"});
  v("freeze", o.freeze,
    {"train the last layer alone, on the features of `init`, `weights` or a file"});
  v("objective", o.objective, {"training objective, see `ood objectives`"});
  v("pretrain", o.pretrain,
    {"epochs in which the network first learns to give pictures back, as an autoencoder; -1: of "
     "random weights, where the objective is better for it (`ood objectives --markdown`), 3, more "
     "where the data are few",
     -1, 1e6});
  v("epochs", o.epochs,
    {"passes over the training data; 0: 3, more where the data are few", 0, 1e6});
  v("batch-size", o.batch_size, {"ID samples a step; 0: 128, less where the data are few", 0, 1e6});
  v("outlier-ratio", o.outlier_ratio, {"outliers a step for each ID sample", 0, 1000});
  v("class-balance", o.class_balance, {"draw every class equally often, small ones repeatedly"});
  v("optimizer", o.optimizer, {"sgd or adamw"});
  v("lr", o.lr, {"peak learning rate; 0: what suits the objective and the network, mostly 0.1", 0});
  v("backbone-lr", o.backbone_lr,
    {"the same for all before the last layer; 0: as `lr`, a tenth of it for a FILE.pt", 0});
  v("momentum", o.momentum, {"Nesterov momentum", 0, 0.9999});
  v("weight-decay", o.weight_decay, {"weight decay", 0});
  v("warmup", o.warmup, {"share of the steps over which the learning rate rises", 0, 1});
  v("clip", o.clip, {"largest norm of the gradient; 0: any", 0});
  v("accumulate", o.accumulate, {"batches whose gradients are averaged for a step", 1, 1e6});
  v("patience", o.patience,
    {"stop after N epochs without gain on validation data; 0: never", 0, 1e6});
  v("device", o.device, {"that trains and tests: cpu, cuda or cuda:N"});
  v("precision", o.precision,
    {"of the network in training: float32, float64, bf16, or tf32 on a GPU"});
  v("sync-batchnorm", o.sync_batchnorm, {"batch normalisation over the rows of all processes"});
  v("augment", o.augment, {"of training pictures: " + augmentation_names()});
  v("mixup", o.mixup, {"mix ID samples, lambda ~ Beta(X, X); 0: off", 0, 1e6});
  v("cutmix", o.cutmix, {"exchange rectangles of ID pictures, area ~ Beta(X, X); 0: off", 0, 1e6});
  v("checkpoint", o.checkpoint,
    {"steps between checkpoints; 0: at the end of each epoch", 0, 1e12});
  v("bank", o.bank,
    {"of how many training samples knn and nnguide keep the features; 0: all that 192 MB hold", 0,
     1e12});
  v("score", o.score,
    {"the run's: a name of `ood scores`, own (the objective's), joint, or auto: by the rule of "
     "`ood scores`"});
  v("seed", o.seed, {"seed of weights, divisions and order", 0, 1e15});
  v("split-seed", o.split_seed,
    {"seed of the divisions and of synthetic outliers alone; -1: that of the run of `init`, "
     "where it had these data, else `seed`",
     -1, 1e15});
  v("threads", o.threads, {"threads; 0: one a processor", 0, 4096});
}

/// Takes from `file` what is not named in `given`: flags stand above a configuration file.
void merge(RunOptions& options, const RunOptions& file, const std::set<std::string>& given);

/// What the data are divided by.
inline std::int64_t division_seed(const RunOptions& o) {
  return o.split_seed < 0 ? o.seed : o.split_seed;
}

/// Of the halves of what is held out: the same for all runs with that division.
inline std::uint64_t held_out_seed(const RunOptions& o) {
  return static_cast<std::uint64_t>(division_seed(o));
}

/// Whether a half of the held-out data has decided something of the training, or may have of the one
/// that it starts from: the best epoch, or parameters that were measured.
bool held_out_decides(const RunOptions& options);

/// The options without where the data is now and what changes time and memory alone.
RunOptions without_circumstances(RunOptions options);

/// A name of the training that the options determine: of everything but where its data and the
/// weights it starts from are now, what it is tested on, and what changes time and memory alone.
std::string run_id(const RunOptions& options);

/// As TOML text; the other way round for a run's config.toml. DataError where the file is damaged,
/// UsageError where a key or the type of a value is wrong.
std::string to_toml(const RunOptions& options);
RunOptions read_config(const std::filesystem::path& path);
/// Whether a file begins as to_toml() has it, comments aside.
bool is_config(const std::filesystem::path& path);
RunOptions parse_config(const std::string& text, const std::filesystem::path& path);

}  // namespace ood
