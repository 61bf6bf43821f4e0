#include "ood/data/content.h"

#include <algorithm>
#include <tuple>

#include "ood/data/hash.h"
#include "ood/registry/listener.h"

namespace ood {
namespace {

class Fingerprint {
 public:
  void add(std::uint64_t v) { h_ = (h_ ^ v) * kFnvPrime + (h_ >> 31); }
  void add(const Samples& s, const std::vector<std::uint64_t>& hashes) {
    add(hashes.size());
    for (const auto v : hashes) add(v);
    if (hashes.empty()) return;
    const auto* labels = s.labels.const_data_ptr<std::int64_t>();
    for (std::int64_t i = 0; i < s.size(); ++i) add(static_cast<std::uint64_t>(labels[i]));
  }
  std::string text() const { return hexadecimal(h_); }

 private:
  std::uint64_t h_ = kFnvStart;
};

// `among` is sorted.
std::int64_t count_in(const std::vector<std::uint64_t>& hashes,
                      const std::vector<std::uint64_t>& among) {
  return std::count_if(hashes.begin(), hashes.end(), [&](std::uint64_t h) {
    return std::binary_search(among.begin(), among.end(), h);
  });
}

}  // namespace

Samples in_order_of_content(const Samples& s) {
  const auto hashes = s.inputs.hashes();
  std::vector<std::int64_t> order(hashes.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<std::int64_t>(i);
  const auto* labels = s.labels.const_data_ptr<std::int64_t>();
  std::sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
    const auto ha = hashes[static_cast<std::size_t>(a)], hb = hashes[static_cast<std::size_t>(b)];
    return std::tie(labels[a], ha, a) < std::tie(labels[b], hb, b);
  });
  return s.select(order);
}

TaskContent::TaskContent(const Task& task) : task_(task) {
  const auto part = [](const Samples& s) {
    return Part{&s, s.inputs.defined() ? s.inputs.hashes() : std::vector<std::uint64_t>()};
  };
  train_ = part(task.train);
  train_outliers_ = part(task.train_outliers);
  validation_ = part(task.validation);
  validation_outliers_ = part(task.validation_outliers);
  test_ = part(task.test);
  for (const auto& [name, samples] : task.ood) ood_.push_back(part(samples));
}

void TaskContent::warn_of_overlap() const {
  const auto hashes_of = [](std::initializer_list<const Part*> parts) {
    std::vector<std::uint64_t> all;
    for (const Part* p : parts) all.insert(all.end(), p->hashes.begin(), p->hashes.end());
    std::sort(all.begin(), all.end());
    return all;
  };
  const auto share = [](std::int64_t n, const Part& of) {
    return std::to_string(n) + " of " + std::to_string(of.hashes.size());
  };
  const auto outliers = hashes_of({&train_outliers_, &validation_outliers_});
  const auto known = hashes_of({&train_, &validation_, &test_});
  for (std::size_t i = 0; i < ood_.size(); ++i) {
    const auto say = [&](const std::vector<std::uint64_t>& among, const char* what) {
      if (const auto n = count_in(ood_[i].hashes, among); n > 0)
        listener().warn(share(n, ood_[i]) + " samples of OOD test set " + task_.ood[i].first +
                        " are also " + what);
    };
    say(outliers, "outliers of the training; its figures say too much");
    say(known, "samples of the known classes; its figures say too little");
  }
  // A few are in many published data sets.
  const auto trained = hashes_of({&train_});
  const auto many = [&](std::int64_t n, const Part& of) {
    return static_cast<std::size_t>(n) * 100 > of.hashes.size();
  };
  if (const auto n = count_in(test_.hashes, trained); many(n, test_))
    listener().warn(share(n, test_) +
                    " test samples are also training samples; accuracy and AUROC say too much");
  if (const auto n = count_in(validation_.hashes, trained); many(n, validation_))
    listener().warn(share(n, validation_) +
                    " held-out samples are also training samples; the threshold promises too much");
}

std::string TaskContent::training_fingerprint() const {
  Fingerprint f;
  for (const Part* p : {&train_, &train_outliers_, &validation_, &validation_outliers_})
    f.add(*p->samples, p->hashes);
  return f.text();
}

std::string TaskContent::test_fingerprint() const {
  Fingerprint f;
  f.add(*test_.samples, test_.hashes);
  for (std::size_t i = 0; i < ood_.size(); ++i) {
    for (const unsigned char c : task_.ood[i].first) f.add(c);
    f.add(*ood_[i].samples, ood_[i].hashes);
  }
  return f.text();
}

}  // namespace ood
