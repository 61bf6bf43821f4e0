#include "ood/data/inputs.h"

#include <ATen/Parallel.h>

#include <algorithm>

#include "ood/data/hash.h"
#include "ood/data/numbers.h"
#include "ood/torch.h"

namespace ood {
namespace {

at::Tensor as_tensor(const std::vector<std::int64_t>& numbers) {
  return torch::tensor(numbers, torch::kLong);
}

// What is read of a source in parts, in order.
void in_parts(const InputSource& source,
              const std::function<void(const at::Tensor&, std::int64_t begin)>& visit) {
  constexpr std::int64_t kMost = 256;
  const auto rows = rows_at_once(source.shape(), kMost);
  for (std::int64_t i = 0; i < source.size(); i += rows)
    visit(source.read(range(i, std::min(i + rows, source.size()))), i);
}

void add_hashes(const at::Tensor& inputs, std::uint64_t* to) {
  const auto x = inputs.contiguous();
  const auto n = x.size(0);
  const auto bytes = n == 0 ? 0 : x.nbytes() / static_cast<std::size_t>(n);
  const auto* data = static_cast<const unsigned char*>(x.const_data_ptr());
  at::parallel_for(0, n, 16, [&](std::int64_t begin, std::int64_t end) {
    for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i)
      to[i] = fnv1a(data + i * bytes, bytes);
  });
}

class Held : public InputSource {
 public:
  Held(at::Tensor inputs, std::vector<std::uint64_t> hashes)
      : inputs_(inputs.contiguous()), known_(std::move(hashes)) {}
  std::int64_t size() const override { return inputs_.size(0); }
  std::array<std::int64_t, 3> shape() const override {
    return {inputs_.size(1), inputs_.size(2), inputs_.size(3)};
  }
  at::ScalarType type() const override { return inputs_.scalar_type(); }
  at::Tensor read(const std::vector<std::int64_t>& positions) const override {
    const auto n = static_cast<std::int64_t>(positions.size());
    const auto step = [](std::int64_t a, std::int64_t b) { return b != a + 1; };
    if (n > 0 && std::adjacent_find(positions.begin(), positions.end(), step) == positions.end())
      return inputs_.narrow(0, positions.front(), n);
    return inputs_.index_select(0, as_tensor(positions));
  }
  bool in_memory() const override { return true; }

 protected:
  std::vector<std::uint64_t> find_hashes() const override {
    if (!known_.empty()) return known_;
    std::vector<std::uint64_t> hashes(static_cast<std::size_t>(size()));
    add_hashes(inputs_, hashes.data());
    return hashes;
  }

 private:
  at::Tensor inputs_;
  std::vector<std::uint64_t> known_;
};

class Mapped : public InputSource {
 public:
  Mapped(std::shared_ptr<const InputSource> of, std::function<at::Tensor(const at::Tensor&)> how)
      : of_(std::move(of)), how_(std::move(how)) {
    const auto one = how_(of_->read({0}));
    shape_ = {one.size(1), one.size(2), one.size(3)};
  }
  std::int64_t size() const override { return of_->size(); }
  std::array<std::int64_t, 3> shape() const override { return shape_; }
  at::ScalarType type() const override { return of_->type(); }
  at::Tensor read(const std::vector<std::int64_t>& positions) const override {
    return how_(of_->read(positions));
  }

 private:
  std::shared_ptr<const InputSource> of_;
  std::function<at::Tensor(const at::Tensor&)> how_;
  std::array<std::int64_t, 3> shape_{};
};

class Joined : public InputSource {
 public:
  Joined(Inputs first, Inputs second) : first_(std::move(first)), second_(std::move(second)) {}
  std::int64_t size() const override { return first_.size() + second_.size(); }
  std::array<std::int64_t, 3> shape() const override { return first_.shape(); }
  at::ScalarType type() const override { return first_.embeddings() ? at::kFloat : at::kByte; }
  at::Tensor read(const std::vector<std::int64_t>& positions) const override {
    std::vector<std::int64_t> of_first, of_second, order(positions.size());
    for (const auto p : positions)
      (p < first_.size() ? of_first : of_second)
          .push_back(p < first_.size() ? p : p - first_.size());
    std::int64_t a = 0, b = static_cast<std::int64_t>(of_first.size());
    for (std::size_t i = 0; i < positions.size(); ++i)
      order[i] = positions[i] < first_.size() ? a++ : b++;
    if (of_second.empty()) return first_.at(of_first);
    if (of_first.empty()) return second_.at(of_second);
    return torch::cat({first_.at(of_first), second_.at(of_second)})
        .index_select(0, as_tensor(order));
  }

 protected:
  std::vector<std::uint64_t> find_hashes() const override {
    auto all = first_.hashes();
    const auto more = second_.hashes();
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }

 private:
  Inputs first_, second_;
};

}  // namespace

void PixelSums::add(const PixelSums& other) {
  sum.resize(other.sum.size());
  squares.resize(other.squares.size());
  for (std::size_t c = 0; c < sum.size(); ++c) {
    sum[c] += other.sum[c];
    squares[c] += other.squares[c];
  }
}

PixelSums pixel_sums(const at::Tensor& picture) {
  const auto x = picture.contiguous();
  const auto* pixels = x.const_data_ptr<std::uint8_t>();
  const std::int64_t n = x.size(1) * x.size(2);
  PixelSums sums;
  for (std::int64_t c = 0; c < x.size(0); ++c) {
    std::uint64_t sum = 0, squares = 0;
    // In runs whose sums fit 32 bits, which vector code adds faster.
    constexpr std::int64_t kRun = 1 << 15;
    for (std::int64_t i = 0; i < n; i += kRun) {
      std::uint32_t of_run = 0, squares_of_run = 0;
      for (std::int64_t j = i; j < std::min(i + kRun, n); ++j) {
        const std::uint32_t v = pixels[c * n + j];
        of_run += v;
        squares_of_run += v * v;
      }
      sum += of_run;
      squares += squares_of_run;
    }
    sums.sum.push_back(sum);
    sums.squares.push_back(squares);
  }
  return sums;
}

const std::vector<std::uint64_t>& InputSource::hashes() const {
  std::call_once(found_, [&] { hashes_ = find_hashes(); });
  return hashes_;
}

std::vector<std::uint64_t> InputSource::find_hashes() const {
  std::vector<std::uint64_t> hashes(static_cast<std::size_t>(size()));
  in_parts(*this, [&](const at::Tensor& part, std::int64_t begin) {
    add_hashes(part, hashes.data() + begin);
  });
  return hashes;
}

Inputs::Inputs(at::Tensor held, std::vector<std::uint64_t> hashes)
    : Inputs(std::make_shared<Held>(std::move(held), std::move(hashes))) {}

Inputs::Inputs(std::shared_ptr<const InputSource> source)
    : source_(std::move(source)), size_(source_->size()) {}

at::Tensor Inputs::at(const std::vector<std::int64_t>& positions) const {
  if (!positions_) return source_->read(positions);
  std::vector<std::int64_t> places;
  places.reserve(positions.size());
  for (const auto p : positions) places.push_back(place(p));
  return source_->read(places);
}

at::Tensor Inputs::slice(std::int64_t begin, std::int64_t end) const {
  return at(range(begin, end));
}

Inputs Inputs::select(const std::vector<std::int64_t>& positions) const {
  auto places = std::make_shared<std::vector<std::int64_t>>();
  places->reserve(positions.size());
  for (const auto p : positions) places->push_back(place(p));
  Inputs chosen = *this;
  chosen.size_ = static_cast<std::int64_t>(places->size());
  chosen.positions_ = std::move(places);
  return chosen;
}

std::vector<std::uint64_t> Inputs::hashes() const {
  std::vector<std::uint64_t> all;
  all.reserve(static_cast<std::size_t>(size_));
  const auto& of_source = source_->hashes();
  for (std::int64_t i = 0; i < size_; ++i)
    all.push_back(of_source[static_cast<std::size_t>(place(i))]);
  return all;
}

Inputs Inputs::mapped(const std::function<at::Tensor(const at::Tensor&)>& how) const {
  if (size_ == 0) return *this;
  Inputs changed = *this;
  changed.source_ = std::make_shared<Mapped>(source_, how);
  if (!in_memory()) return changed;
  std::vector<at::Tensor> parts;
  in_parts(*changed.source_, [&](const at::Tensor& part, std::int64_t) { parts.push_back(part); });
  changed.source_ = std::make_shared<Held>(torch::cat(parts), std::vector<std::uint64_t>());
  return changed;
}

Inputs Inputs::brought_to(const PictureSize& size) const {
  if (size_ == 0 || (height() == size.height && width() == size.width)) return *this;
  return mapped([size](const at::Tensor& x) { return ood::brought_to(x, size); });
}

Inputs Inputs::with_channels(std::int64_t channels) const {
  if (size_ == 0 || channels == this->channels()) return *this;
  if (auto source = source_->as_channels(channels)) {
    Inputs changed = *this;
    changed.source_ = std::move(source);
    return changed;
  }
  return mapped([channels](const at::Tensor& x) { return ood::with_channels(x, channels); });
}

Inputs Inputs::followed_by(const Inputs& more) const {
  if (in_memory() && more.in_memory()) {
    auto hashes = this->hashes();
    const auto others = more.hashes();
    hashes.insert(hashes.end(), others.begin(), others.end());
    return {torch::cat({all(), more.all()}), std::move(hashes)};
  }
  return Inputs(std::make_shared<Joined>(*this, more));
}

std::string input_kind(bool embeddings, std::int64_t numbers) {
  return embeddings ? "embeddings of " + std::to_string(numbers) + " numbers" : "pictures";
}

std::int64_t rows_at_once(const std::array<std::int64_t, 3>& shape, std::int64_t most) {
  // As many as there are of 64x64 pixels in colour, at least a few for the threads.
  constexpr std::int64_t kNumbers = 3 * 64 * 64, kLeast = 8;
  const std::int64_t numbers = std::max<std::int64_t>(shape[0] * shape[1] * shape[2], 1);
  return std::clamp(most * kNumbers / numbers, std::min(kLeast, most), most);
}

}  // namespace ood
