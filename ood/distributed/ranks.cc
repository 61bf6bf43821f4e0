#include "ood/distributed/ranks.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cstring>

#include "ood/errors.h"
#include "ood/registry/text.h"

namespace ood {
namespace {

at::Tensor bytes_of(const std::string& text, std::int64_t length) {
  auto bytes = at::zeros({length}, at::kByte);
  std::memcpy(bytes.mutable_data_ptr(), text.data(), text.size());
  return bytes;
}

std::string text_of(const at::Tensor& bytes, std::int64_t length) {
  return {static_cast<const char*>(bytes.const_data_ptr()), static_cast<std::size_t>(length)};
}

std::unique_ptr<Ranks>& current() {
  static std::unique_ptr<Ranks> all;
  return all;
}

}  // namespace

at::Tensor Ranks::gather(const at::Tensor& contiguous) const { return contiguous.unsqueeze(0); }

std::string Ranks::share(const std::string& text) const {
  if (alone()) return text;
  const auto length = at::tensor({static_cast<std::int64_t>(text.size())}, at::kLong);
  share(length);
  const auto n = *length.const_data_ptr<std::int64_t>();
  const auto bytes = first() ? bytes_of(text, n) : at::empty({n}, at::kByte);
  if (n > 0) share(bytes);
  return text_of(bytes, n);
}

std::vector<std::string> Ranks::gather(const std::string& text) const {
  if (alone()) return {text};
  const auto lengths = gather(at::tensor({static_cast<std::int64_t>(text.size())}, at::kLong));
  const auto* n = lengths.const_data_ptr<std::int64_t>();
  const auto longest = std::max<std::int64_t>(*std::max_element(n, n + size()), 1);
  const auto bytes = gather(bytes_of(text, longest));
  std::vector<std::string> all;
  for (int r = 0; r < size(); ++r) all.push_back(text_of(bytes.select(0, r), n[r]));
  return all;
}

bool Ranks::any(bool here) const {
  const auto count = at::tensor({here ? 1 : 0}, at::kInt);
  start_sum(count)();
  return *count.const_data_ptr<int>() > 0;
}

void Ranks::agree(const std::string& what, const std::string& text) const {
  const auto all = gather(text);
  for (int r = 1; r < size(); ++r) {
    const auto i = static_cast<std::size_t>(r);
    if (all[i] == all[0]) continue;
    const auto [theirs, firsts] = first_difference(all[i], all[0]);
    throw UsageError(what + " differs between ranks: rank " + std::to_string(r) + " has " + theirs +
                     ", rank 0 has " + firsts);
  }
}

const Ranks& one_process() {
  static const Ranks one;
  return one;
}

const Ranks& ranks() { return current() ? *current() : one_process(); }
void set_ranks(std::unique_ptr<Ranks> all) { current() = std::move(all); }

void on_first(const Ranks& ranks, const std::function<void()>& action) {
  if (ranks.alone()) return action();
  std::exception_ptr error;
  std::string kind;  // "": it was done
  if (ranks.first()) {
    const auto failed = [&](SaidElsewhere::Kind k) {
      error = std::current_exception();
      kind = std::to_string(k);
    };
    try {
      action();
    } catch (const UsageError&) {
      failed(SaidElsewhere::kUsage);
    } catch (const DataError&) {
      failed(SaidElsewhere::kData);
    } catch (const std::exception&) {
      failed(SaidElsewhere::kOther);
    }
  }
  kind = ranks.share(kind);
  if (error) std::rethrow_exception(error);
  if (!kind.empty()) throw SaidElsewhere{static_cast<SaidElsewhere::Kind>(std::stoi(kind))};
}

}  // namespace ood
