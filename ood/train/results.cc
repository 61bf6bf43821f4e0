#include "ood/train/results.h"

#include <concepts>
#include <limits>
#include <nlohmann/json.hpp>

#include "ood/data/files.h"
#include "ood/errors.h"
#include "ood/train/run_files.h"

namespace ood {
namespace {

using json = nlohmann::ordered_json;

template <class A, class B>
concept Same = std::same_as<std::remove_const_t<A>, B>;

// The fields of each: f(key, value), f.given(key, value) of what is left out where it is empty,
// f.where(given, key, value), f.part(key, fields of an object), f.flat(key, optional) of what has no
// object of its own, known by one of its keys.

template <Same<Detection> D, class F>
void visit(D& d, F& f) {
  f("auroc", d.auroc);
  f("aupr_in", d.aupr_in);
  f("aupr_out", d.aupr_out);
  f("fpr95", d.fpr95);
  f("fpr95_ood", d.fpr95_ood);
  f("detection_error", d.error);
}

template <Same<OpenSet> O, class F>
void visit(O& o, F& f) {
  static_assert(std::size(kCcrRates) == 3);
  f("oscr", o.oscr);
  f.part("ccr_at_fpr", [&](auto& rates) {
    rates("0.001", o.ccr_at_fpr[0]);
    rates("0.01", o.ccr_at_fpr[1]);
    rates("0.1", o.ccr_at_fpr[2]);
  });
  f("aurc", o.aurc);
  f("augrc", o.augrc);
}

template <Same<BehindBest> B, class F>
void visit(B& b, F& f) {
  f("objective", b.objective);
  f("low", b.low);
  f("high", b.high);
}

template <Same<SetResults> S, class F>
void visit(S& s, F& f) {
  visit(s.detection, f);
  f("auroc_low", s.auroc.low);
  f("auroc_high", s.auroc.high);
  f("samples", s.samples);
  f.given("rejected", s.rejected);
  f.flat("oscr", s.open_set);
  f.given("behind_best", s.behind_best);
}

template <Same<Calibration> C, class F>
void visit(C& c, F& f) {
  f("nll", c.nll);
  f("brier", c.brier);
  f("ece", c.ece);
}

template <Same<Histogram> H, class F>
void visit(H& h, F& f) {
  f("low", h.low);
  f("high", h.high);
  f("id", h.id);
  f("ood", h.ood);
}

template <Same<SetCurves> C, class F>
void visit(C& c, F& f) {
  f("roc", c.roc);
  f("histogram", c.histogram);
}

template <Same<OverSeeds> O, class F>
void visit(O& o, F& f) {
  f("mean", o.mean);
  f("sd", o.sd);
  f("runs", o.runs);
}

template <Same<ObjectiveResults> O, class F>
void visit(O& o, F& f) {
  f("objective", o.objective);
  f("parameters", o.parameters);
  f("seconds", o.seconds);
  f.given("steps", o.steps);
  f.given("best_step", o.best_step);
  f("score", o.score);
  f.given("members", o.members);
  f("own_score", o.own_score);
  f("accuracy", o.accuracy);
  f.given("class_accuracy", o.class_accuracy);
  f.given("calibration", o.calibration);
  f("test_samples", o.test_samples);
  f.where(o.threshold.has_value(), "validation_accuracy", o.validation_accuracy);
  f.given("false_alarms", o.false_alarms);
  f.given("false_alarms_confidence", o.false_alarms_confidence);
  f.given("threshold_samples", o.threshold_samples);
  f.given("threshold", o.threshold);
  f.given("test_rejected", o.test_rejected);
  f("ood", o.ood);
  f("scores", o.scores);
  f.given("groups", o.groups);
  f("unavailable_scores", o.unavailable_scores);
  f("curves", o.curves);
  f("failure_signs", o.failure_signs);
  f.given("training", o.training);
  f.given("over_seeds", o.over_seeds);
}

template <Same<ClassCount> C, class F>
void visit(C& c, F& f) {
  f("name", c.name);
  f("train", c.train);
  f("test", c.test);
}

template <Same<Results> R, class F>
void visit(R& r, F& f) {
  f("version", r.version);
  f("data", r.data);
  f("name", r.name);
  f("data_fingerprint", r.data_fingerprint);
  f("known", r.known);
  f("outliers", r.outliers);
  f("unknown", r.unknown);
  f("outliers_are_classes", r.outliers_are_classes);
  f("classes", r.classes);
  f("train_samples", r.train_samples);
  f("outlier_samples", r.outlier_samples);
  f("config", r.config);
  f("objectives", r.objectives);
}

template <class T>
concept Number = std::is_arithmetic_v<T>;
template <class T>
concept Table = requires(T t) {
  typename T::mapped_type;
};

class Writer {
 public:
  template <class T>
  void operator()(const char* key, const T& v) {
    json_[key] = written(v);
  }
  template <class T>
  void given(const char* key, const std::optional<T>& v) {
    where(v.has_value(), key, v);
  }
  template <class T>
  void given(const char* key, const T& v) {
    where(!v.empty(), key, v);
  }
  template <class T>
  void where(bool given, const char* key, const T& v) {
    if (given) (*this)(key, v);
  }
  template <class Fields>
  void part(const char* key, const Fields& fields) {
    Writer w;
    fields(w);
    json_[key] = w.json_;
  }
  template <class T>
  void flat(const char* /*key*/, const std::optional<T>& v) {
    if (v) visit(*v, *this);
  }

  template <Number T>
  static json written(const T& v) {
    return v;
  }
  static json written(const std::string& v) { return v; }
  template <class A, class B>
  static json written(const std::pair<A, B>& v) {
    return {v.first, v.second};
  }
  template <class T>
  static json written(const std::optional<T>& v) {
    return v ? written(*v) : json(nullptr);
  }
  template <class T>
  static json written(const std::vector<T>& v) {
    json list = json::array();
    for (const auto& x : v) list.push_back(written(x));
    return list;
  }
  template <Table T>
  static json written(const T& v) {
    json table = json::object();
    for (const auto& [name, x] : v) table[name] = written(x);
    return table;
  }
  template <class T>
  static json written(const T& v) {
    Writer w;
    visit(v, w);
    return w.json_;
  }

 private:
  json json_ = json::object();
};

class Reader {
 public:
  explicit Reader(const json& from) : json_(from) {}

  template <class T>
  void operator()(const char* key, T& v) {
    read(json_.at(key), v);
  }
  template <class T>
  void given(const char* key, T& v) {
    if (json_.contains(key)) read(json_.at(key), v);
  }
  template <class T>
  void where(bool /*given*/, const char* key, T& v) {
    given(key, v);
  }
  template <class Fields>
  void part(const char* key, const Fields& fields) {
    Reader r(json_.at(key));
    fields(r);
  }
  template <class T>
  void flat(const char* key, std::optional<T>& v) {
    if (json_.contains(key)) visit(v.emplace(), *this);
  }

  // JSON has no infinity and no NaN.
  static void read(const json& j, double& v) {
    v = j.is_null() ? std::numeric_limits<double>::quiet_NaN() : j.get<double>();
  }
  template <Number T>
  static void read(const json& j, T& v) {
    j.get_to(v);
  }
  static void read(const json& j, std::string& v) { j.get_to(v); }
  template <class A, class B>
  static void read(const json& j, std::pair<A, B>& v) {
    read(j.at(0), v.first);
    read(j.at(1), v.second);
  }
  template <class T>
  static void read(const json& j, std::optional<T>& v) {
    if (!j.is_null()) read(j, v.emplace());
  }
  template <class T>
  static void read(const json& j, std::vector<T>& v) {
    for (const auto& x : j) read(x, v.emplace_back());
  }
  template <Table T>
  static void read(const json& j, T& v) {
    for (const auto& [name, x] : j.items()) read(x, v[name]);
  }
  template <class T>
  static void read(const json& j, T& v) {
    Reader r(j);
    visit(v, r);
  }

 private:
  const json& json_;
};

}  // namespace

double ObjectiveResults::group_auroc(const std::string& group) const {
  double sum = 0, sets = 0;
  for (const auto& [set, unused] : ood)
    if (set.starts_with(group + ":")) {
      sum += auroc(set);
      ++sets;
    }
  return sum / sets;
}

std::vector<std::string> Results::sets() const {
  std::vector<std::string> names;
  for (const auto& [name, unused] : objectives.front().ood) names.push_back(name);
  return names;
}

void write_results(const std::filesystem::path& file, const Results& results) {
  write_file(file, Writer::written(results).dump(1) + "\n");
}

Results read_results(const std::filesystem::path& folder) {
  constexpr std::uint64_t kLargest = 1 << 30;
  const auto path = folder / kResultsFile;
  const auto file = parse_json(read_text(path, kLargest));
  Results results;
  try {
    Reader::read(file, results);
    if (!results.objectives.empty()) return results;
  } catch (const json::exception&) {  // NOLINT(bugprone-empty-catch): said below
  }
  throw DataError(path.string() + ": expected the results of a training, found other contents");
}

}  // namespace ood
