#include "ood/data/content.h"

#include <algorithm>
#include <tuple>

#include "ood/data/hash.h"
#include "ood/data/numbers.h"
#include "ood/registry/listener.h"

namespace ood {
namespace {

struct Part {
  explicit Part(const Samples& s)
      : samples(s), hashes(s.inputs.defined() ? s.inputs.hashes() : std::vector<std::uint64_t>()) {}
  const Samples& samples;
  std::vector<std::uint64_t> hashes;
};

class Fingerprint {
 public:
  void add(std::uint64_t v) { h_ = (h_ ^ v) * kFnvPrime + (h_ >> 31); }
  void add(const Part& part) {
    add(part.hashes.size());
    for (const auto v : part.hashes) add(v);
    if (part.hashes.empty()) return;
    const auto* labels = part.samples.labels.const_data_ptr<std::int64_t>();
    for (std::int64_t i = 0; i < part.samples.size(); ++i)
      add(static_cast<std::uint64_t>(labels[i]));
  }
  std::string text() const { return hexadecimal(h_); }

 private:
  std::uint64_t h_ = kFnvStart;
};

// Sorted.
std::vector<std::uint64_t> hashes_of(std::initializer_list<const Part*> parts) {
  std::vector<std::uint64_t> all;
  for (const Part* p : parts) all.insert(all.end(), p->hashes.begin(), p->hashes.end());
  std::sort(all.begin(), all.end());
  return all;
}

std::string share(std::int64_t n, const Part& of) {
  return std::to_string(n) + " of " + std::to_string(of.hashes.size());
}

}  // namespace

std::int64_t count_among(const std::vector<std::uint64_t>& hashes,
                         const std::vector<std::uint64_t>& others) {
  return std::count_if(hashes.begin(), hashes.end(), [&](std::uint64_t h) {
    return std::binary_search(others.begin(), others.end(), h);
  });
}

Samples in_order_of_content(const Samples& s) {
  const auto hashes = s.inputs.hashes();
  auto order = range(0, s.size());
  const auto* labels = s.labels.const_data_ptr<std::int64_t>();
  std::sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
    const auto ha = hashes[static_cast<std::size_t>(a)], hb = hashes[static_cast<std::size_t>(b)];
    return std::tie(labels[a], ha, a) < std::tie(labels[b], hb, b);
  });
  return s.select(order);
}

void look_at_content(Task& task) {
  const Part train(task.train), train_outliers(task.train_outliers), validation(task.validation),
      validation_outliers(task.validation_outliers), test(task.test);
  Fingerprint training, tested;
  for (const Part* p : {&train, &train_outliers, &validation, &validation_outliers})
    training.add(*p);
  tested.add(test);
  const auto outliers = hashes_of({&train_outliers, &validation_outliers});
  const auto known = hashes_of({&train, &validation, &test});
  for (const auto& [name, samples] : task.ood) {
    const Part part(samples);
    for (const unsigned char c : name) tested.add(c);
    tested.add(part);
    const std::string set = " samples of OOD test set " + name + " are also ";
    if (const auto n = count_among(part.hashes, outliers); n > 0)
      listener().warn(share(n, part) + set + "outliers of the training; its figures say too much");
    if (const auto n = count_among(part.hashes, known); n > 0)
      listener().warn(share(n, part) + set +
                      "samples of the known classes; its figures say too little");
  }
  const auto trained = hashes_of({&train});
  // A few are in many published data sets.
  const auto warn = [&](const Part& part, const char* what) {
    const auto n = count_among(part.hashes, trained);
    if (static_cast<std::size_t>(n) * 100 > part.hashes.size())
      listener().warn(share(n, part) + what);
  };
  warn(test, " test samples are also training samples; accuracy and AUROC say too much");
  warn(validation, " held-out samples are also training samples; the threshold promises too much");
  task.fingerprint = training.text();
  task.test_fingerprint = tested.text();
}

}  // namespace ood
