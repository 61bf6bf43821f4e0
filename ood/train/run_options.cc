#include "ood/train/run_options.h"

#include <c10/util/StringUtil.h>
#include <toml++/toml.h>

#include <charconv>
#include <cmath>
#include <fstream>
#include <iomanip>
#include <sstream>

#include "ood/data/files.h"
#include "ood/data/hash.h"
#include "ood/errors.h"
#include "ood/models/network_file.h"
#include "ood/registry/registry.h"
#include "ood/registry/text.h"
#include "ood/train/fitted_scores.h"

namespace ood {
namespace {

// Of a run folder; one that an older program cannot read gets a larger number.
constexpr std::int64_t kFormat = 2;

// What a program adds to the options of a run.
template <class Visit>
void visit_additions(RunOptions& o, const Visit& visit) {
  visit("data_fingerprint", o.data_fingerprint, {});
  visit("test_fingerprint", o.test_fingerprint, {});
  visit("network_fingerprint", o.network_fingerprint, {});
  visit("launch", o.launch, {});
  visit("measured", o.measured, {});
}

void check_range(const char* option, double value, const OptionHelp& help) {
  if (value >= help.low && value <= help.high) return;
  std::ostringstream text;
  text << "`" << option << "`: expected " << (std::isfinite(value) ? "" : "a finite number, ")
       << help.range() << ", got " << value;
  throw UsageError(text.str());
}

void check_word(const char* flag, const std::string& value,
                std::initializer_list<const char*> known) {
  std::string list;
  for (const char* word : known) {
    if (value == word) return;
    list += (list.empty() ? "" : " or ") + std::string(word);
  }
  throw UsageError("`" + std::string(flag) + "`: expected " + list + ", got " + value);
}

const ObjectiveEntry& entry_of(const std::string& name) {
  return with_errors_as<UsageError>([&]() -> const auto& { return get_objective(name); });
}

// The shortest text that reads back as the same number; toml++ prints 17 digits.
std::string shortest(double v) {
  char text[40];
  const auto end = std::to_chars(text, text + sizeof text, v).ptr;
  std::string s(text, end);
  // TOML tells floats from integers by the point.
  return s.find_first_of(".en") == std::string::npos ? s + ".0" : s;
}

// toml++ descends for every bracket and every dot of a key.
void check_depth(const std::string& text, const std::string& file) {
  constexpr int kDeepest = 64;
  int depth = 0;
  for (const char c : text) {
    if (c == '\n') depth = 0;
    depth += c == '.' || c == '[' || c == '{';
    if (depth > kDeepest) throw DataError(file + ": is nested deeper than a configuration is");
  }
}

// Takes over what a table has.
struct TomlReader {
  const toml::table& table;
  std::set<std::string>& known;
  const std::string& file;

  [[noreturn]] void fail(const char* key, const char* expected) const {
    throw UsageError(file + ": " + key + ": expected " + expected);
  }
  template <class T>
  void operator()(const char* key, T& v, const OptionHelp&) const {
    known.insert(key);
    const auto node = table[key];
    if (!node) return;
    constexpr bool kWhole = std::is_same_v<T, std::int64_t>;
    std::optional<T> value;
    if constexpr (kWhole)  // value() would cast a real number of any size
      value = node.template value_exact<T>();
    else
      value = node.template value<T>();
    if (!value)
      fail(key, kWhole                      ? "a whole number"
                : std::is_same_v<T, bool>   ? "true or false"
                : std::is_same_v<T, double> ? "a number"
                                            : "a text");
    v = *value;
  }
  void operator()(const char* key, std::vector<std::string>& v, const OptionHelp&) const {
    known.insert(key);
    const auto node = table[key];
    if (!node) return;
    if (!node.is_array()) fail(key, "a list of texts");
    v.clear();
    for (const auto& item : *node.as_array())
      v.push_back(item.value<std::string>() ? *item.value<std::string>()
                                            : (fail(key, "a list of texts"), ""));
  }
};

}  // namespace

std::string OptionHelp::range() const {
  std::ostringstream text;
  constexpr double kNoLimit = 1e12;
  text << std::setprecision(10);
  if (high < kNoLimit)
    text << low << " to " << high;
  else
    text << "at least " << low;
  return text.str();
}

std::vector<double> RunOptions::objective_parameters() const {
  const auto set = parameters.find(objective);
  const std::map<std::string, double> none;
  return values_of(entry_of(objective).parameters, set == parameters.end() ? none : set->second);
}

void RunOptions::resolve() {
  const ObjectiveEntry& entry = entry_of(objective);
  if (batch_size < 0 || batch_size == 1)
    throw UsageError("`batch-size`: expected 0 or at least 2, got " + std::to_string(batch_size));
  visit_options(*this, [](const char* name, const auto& value, const OptionHelp& help) {
    using T = std::remove_cvref_t<decltype(value)>;
    if constexpr (std::is_same_v<T, std::int64_t> || std::is_same_v<T, double>)
      check_range(name, static_cast<double>(value), help);
  });
  check_word("resize", resize, {"squash", "crop"});
  check_word("optimizer", optimizer, {"sgd", "adamw"});
  check_word("precision", precision, {"float32", "float64", "bf16", "tf32"});
  if (precision == "tf32" && device.rfind("cuda", 0) != 0)
    throw UsageError("`precision`: expected float32, float64 or bf16 on " + device + ", got tf32");
  parse_augmentation(augment);
  if (!alpha.empty()) parse_colour(alpha);
  if (model != "auto" && !is_network_file(model)) check_network(model);
  check_word("normalise", normalise, {"auto", "data", "imagenet", "half"});
  if (network_file_kind(model) == kPackageNetwork) {
    freeze = true;
    if (device != "cpu")
      throw UsageError("`device`: expected cpu with `model` FILE.pt2, whose code is for it, got " +
                       device);
  }
  if (freeze && init.empty() && weights.empty() && !is_network_file(model))
    throw UsageError(
        "`freeze`: expected weights that are worth keeping, of `init` RUN, `weights` "
        "FILE.safetensors or `model` FILE.pt or FILE.pt2, got none");
  if (!weights.empty() && (!init.empty() || is_network_file(model)))
    throw UsageError(
        "`weights`: expected them without `init` and without a file as `model`, got both");
  if ((mixup > 0 || cutmix > 0) && !entry.classifies)
    throw UsageError("`mixup`, `cutmix`: expected an objective that uses labels, got " + objective);
  if (mixup > 0 && cutmix > 0) throw UsageError("expected `mixup` or `cutmix`, got both");
  if (pretrain > 0 && freeze)
    throw UsageError(
        "`pretrain`: expected a network that learns, got one that stays as it is, by `freeze` or "
        "as a FILE.pt2");
  check_score_name(score, entry);
  for (const auto& [name, unused] : parameters[objective]) {
    std::vector<std::string_view> known;
    for (const auto& p : entry.parameters) known.push_back(p.name);
    if (std::find(known.begin(), known.end(), name) == known.end())
      throw UsageError(objective + " has no parameter " + name + "; expected " +
                       (known.empty() ? "none" : c10::Join(", ", known)));
  }
  // Adam's steps do not grow with the gradient.
  if (lr == 0) lr = optimizer == "adamw" ? 1e-3 : entry.learning_rate;
  if (backbone_lr == 0 && network_file_kind(model) == kScriptNetwork) backbone_lr = lr / 10;
  const auto values = objective_parameters();
  with_errors_as<UsageError>([&] { check_parameters(entry.name, entry.parameters, values); });
  std::map<std::string, double> all;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::string parameter(entry.parameters[i].name);
    all[parameter] = values[i];
    if (parameters[objective].count(parameter) == 0) by_default.insert(parameter);
  }
  parameters = {{objective, all}};
}

PictureOptions picture_options(const RunOptions& o) {
  return {{{o.image_size, o.image_size, o.resize == "crop"},
           o.max_pixels,
           o.alpha.empty() ? std::nullopt : std::optional(parse_colour(o.alpha))},
          o.strict,
          o.cache * kMegabyte};
}

void RunOptions::make_absolute(bool outliers_are_path) {
  const auto absolute = [](std::string& path) {
    if (!path.empty() && path != "fashion-mnist" && std::filesystem::exists(path))
      path = std::filesystem::absolute(path).lexically_normal().string();
  };
  absolute(data);
  absolute(init);
  absolute(weights);
  if (is_network_file(model)) absolute(model);
  if (outliers_are_path) absolute(outliers);
  for (auto& item : ood_data)
    if (const auto equals = item.find('='); equals != std::string::npos) {
      auto path = item.substr(equals + 1);
      absolute(path);
      item = item.substr(0, equals + 1) + path;
    }
}

void merge(RunOptions& options, const RunOptions& file, const std::set<std::string>& given) {
  std::map<std::string, void*> fields;
  visit_options(options, [&](const char* key, auto& v, const OptionHelp&) { fields[key] = &v; });
  RunOptions copy = file;
  visit_options(copy, [&](const char* key, auto& v, const OptionHelp&) {
    using T = std::remove_reference_t<decltype(v)>;
    if (given.count(key) == 0) *static_cast<T*>(fields.at(key)) = v;
  });
  for (const auto& [objective, values] : file.parameters)
    for (const auto& [name, value] : values) {
      const bool taken = options.parameters[objective].emplace(name, value).second;
      const auto& measured = file.measured;
      if (taken && std::find(measured.begin(), measured.end(), name) != measured.end())
        options.measured.push_back(name);
    }
}

std::string to_toml(const RunOptions& options) {
  // toml++ sorts keys; written by hand the file keeps the order of --help.
  std::ostringstream out;
  struct Writer {
    std::ostringstream& out;
    void operator()(const char* key, const std::string& v, const OptionHelp&) const {
      out << key << " = " << toml::value<std::string>(v) << "\n";
    }
    void operator()(const char* key, std::int64_t v, const OptionHelp&) const {
      out << key << " = " << v << "\n";
    }
    void operator()(const char* key, bool v, const OptionHelp&) const {
      out << key << " = " << (v ? "true" : "false") << "\n";
    }
    void operator()(const char* key, double v, const OptionHelp&) const {
      out << key << " = " << shortest(v) << "\n";
    }
    void operator()(const char* key, const std::vector<std::string>& v, const OptionHelp&) const {
      toml::array a;
      for (const auto& s : v) a.push_back(s);
      out << key << " = " << a << "\n";
    }
  };
  out << "format = " << kFormat << "\n";
  RunOptions copy = options;
  visit_additions(copy, [&](const char* key, const auto& v, const OptionHelp& help) {
    if (!v.empty()) Writer{out}(key, v, help);
  });
  visit_options(copy, Writer{out});
  for (const auto& [name, values] : options.parameters) {
    if (values.empty()) continue;
    out << "\n[" << name << "]\n";
    for (const auto& [key, value] : values) out << key << " = " << shortest(value) << "\n";
  }
  return out.str();
}

bool held_out_decides(const RunOptions& o) {
  const bool of_init = !o.init.empty() && o.split_seed >= 0;
  return of_init || !o.measured.empty() || (o.patience > 0 && entry_of(o.objective).classifies);
}

RunOptions without_circumstances(RunOptions o) {
  o.data = o.launch = "";
  o.threads = o.cache = o.decoders = 0;
  o.max_pixels = kMaxPixels;
  return o;
}

std::string run_id(const RunOptions& options) {
  RunOptions o = without_circumstances(options);
  o.init = o.weights = o.test_fingerprint = "";
  o.ood_data.clear();
  o.limit_test = 0;
  o.device = "cpu";
  if (is_network_file(o.model)) o.model = network_file_kind(o.model);
  std::string text = to_toml(o);
  // Off, they are no part of the name: older runs keep theirs.
  for (const std::string off :
       {"resize = 'squash'\n", "sync-batchnorm = false\n", "freeze = false\n",
        "backbone-lr = 0.0\n", "cache = 0\n", "decoders = 0\n", "weights = ''\n",
        "normalise = 'auto'\n", "class-balance = false\n", "device = 'cpu'\n", "alpha = 'black'\n",
        "split-seed = -1\n", "score = 'auto'\n", "pretrain = 0\n"})
    if (const auto at = text.find(off); at != std::string::npos) text.erase(at, off.size());
  return hexadecimal(fnv1a(text.data(), text.size()));
}

bool is_config(const std::filesystem::path& path) {
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);)
    if (!line.empty() && line.front() != '#') return line.starts_with("format = ");
  return false;
}

RunOptions read_config(const std::filesystem::path& path) {
  constexpr std::uint64_t kLargest = 1 << 20;
  return parse_config(read_text(path, kLargest), path);
}

RunOptions parse_config(const std::string& text, const std::filesystem::path& path) {
  check_depth(text, path.string());
  toml::table table;
  try {
    table = toml::parse(text, path.string());
  } catch (const toml::parse_error& e) {
    std::ostringstream what;
    what << path.string();
    if (e.source().begin.line > 0) what << ":" << e.source().begin.line;
    what << ": " << e.description();
    throw DataError(what.str());
  }
  RunOptions o;
  std::set<std::string> known;
  const std::string file = path.string();
  const TomlReader read{table, known, file};
  std::int64_t format = kFormat;
  read("format", format, {});
  if (format > kFormat)
    throw DataError(file + ": is of format " + std::to_string(format) +
                    ", this ood reads formats up to " + std::to_string(kFormat) +
                    "; use a newer ood");
  visit_additions(o, read);
  visit_options(o, read);
  for (const auto& [key, node] : table) {
    const std::string name(key.str());
    if (known.count(name) > 0) continue;
    const ObjectiveEntry* entry = find_objective(name);
    if (entry == nullptr || !node.is_table())
      throw UsageError(file + ": unknown key " + name +
                       did_you_mean(name, {known.begin(), known.end()}));
    for (const auto& [parameter, value] : *node.as_table()) {
      const auto number = value.value<double>();
      if (!number)
        throw UsageError(file + ": " + name + "." + std::string(parameter.str()) +
                         ": expected a number");
      o.parameters[name][std::string(parameter.str())] = *number;
    }
  }
  // A run's own, of before there was such a choice.
  if (!o.data_fingerprint.empty()) o.pretrain = std::max<std::int64_t>(o.pretrain, 0);
  return o;
}

}  // namespace ood
