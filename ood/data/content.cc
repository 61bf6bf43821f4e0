#include "ood/data/content.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdio>
#include <set>
#include <tuple>

#include "ood/registry/listener.h"

namespace ood {
namespace {

// A number for the content of each sample.
std::vector<std::uint64_t> content_hashes(const at::Tensor& inputs) {
  const auto x = inputs.contiguous();
  const auto n = x.size(0);
  std::vector<std::uint64_t> hashes(static_cast<std::size_t>(n));
  const auto bytes = n == 0 ? 0 : x.nbytes() / static_cast<std::size_t>(n);
  const auto* data = static_cast<const unsigned char*>(x.const_data_ptr());
  at::parallel_for(0, n, 256, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const auto* p = data + static_cast<std::size_t>(i) * bytes;
      std::uint64_t h = 14695981039346656037u;  // FNV-1a
      for (std::size_t k = 0; k < bytes; ++k) h = (h ^ p[k]) * 1099511628211u;
      hashes[static_cast<std::size_t>(i)] = h;
    }
  });
  return hashes;
}

class Fingerprint {
 public:
  void add(std::uint64_t v) { h_ = (h_ ^ v) * 1099511628211u + (h_ >> 31); }
  void add(const Samples& s) {
    add(s.inputs.defined() ? static_cast<std::uint64_t>(s.size()) : 0);
    if (!s.inputs.defined()) return;
    for (const auto v : content_hashes(s.inputs)) add(v);
    const auto* labels = s.labels.const_data_ptr<std::int64_t>();
    for (std::int64_t i = 0; i < s.size(); ++i) add(static_cast<std::uint64_t>(labels[i]));
  }
  std::string text() const {
    char digits[17];
    std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(h_));
    return digits;
  }

 private:
  std::uint64_t h_ = 14695981039346656037u;
};

}  // namespace

Samples in_order_of_content(const Samples& s) {
  const auto hashes = content_hashes(s.inputs);
  std::vector<std::int64_t> order(hashes.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<std::int64_t>(i);
  const auto* labels = s.labels.const_data_ptr<std::int64_t>();
  std::sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
    const auto ha = hashes[static_cast<std::size_t>(a)], hb = hashes[static_cast<std::size_t>(b)];
    return std::tie(labels[a], ha, a) < std::tie(labels[b], hb, b);
  });
  return s.select(order);
}

void warn_of_overlap(const Task& t) {
  const auto hashes_of = [](std::initializer_list<const Samples*> parts) {
    std::set<std::uint64_t> all;
    for (const Samples* s : parts)
      if (s->inputs.defined())
        for (const auto h : content_hashes(s->inputs)) all.insert(h);
    return all;
  };
  const auto shared = [](const Samples& s, const std::set<std::uint64_t>& with) {
    std::int64_t n = 0;
    if (!with.empty())
      for (const auto h : content_hashes(s.inputs)) n += with.count(h) > 0;
    return n;
  };
  const auto outliers = hashes_of({&t.train_outliers, &t.validation_outliers});
  for (const auto& [name, samples] : t.ood)
    if (const auto n = shared(samples, outliers); n > 0)
      listener().warn(std::to_string(n) + " of " + std::to_string(samples.size()) +
                      " samples of OOD test set " + name +
                      " are also outliers of the training; its figures say too much");
  // A few are in many published data sets.
  if (const auto n = shared(t.test, hashes_of({&t.train})); n * 100 > t.test.size())
    listener().warn(std::to_string(n) + " of " + std::to_string(t.test.size()) +
                    " test samples are also training samples; accuracy and AUROC say too much");
}

std::string training_fingerprint(const Task& t) {
  Fingerprint f;
  for (const Samples* s : {&t.train, &t.train_outliers, &t.validation, &t.validation_outliers})
    f.add(*s);
  return f.text();
}

std::string test_fingerprint(const Task& t) {
  Fingerprint f;
  f.add(t.test);
  for (const auto& [name, samples] : t.ood) {
    for (const unsigned char c : name) f.add(c);
    f.add(samples);
  }
  return f.text();
}

}  // namespace ood
