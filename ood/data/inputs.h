#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "ood/data/picture.h"

namespace ood {

/// Of all pixels of a picture, by channel: exact, so that no order of adding matters.
struct PixelSums {
  std::vector<std::uint64_t> sum, squares;

  void add(const PixelSums& other);
};
PixelSums pixel_sums(const at::Tensor& picture);  ///< uint8 [C, H, W]

/// Where the inputs of samples come from: memory, files that are decoded when they are asked for,
/// or other inputs. May be read from several threads.
class InputSource {
 public:
  virtual ~InputSource() = default;
  virtual std::int64_t size() const = 0;
  /// Of one: channels, height, width.
  virtual std::array<std::int64_t, 3> shape() const = 0;
  /// uint8 of pictures, float32 of embeddings.
  virtual at::ScalarType type() const = 0;
  /// Those at the positions, [n, channels, height, width]; DataError where a file cannot be read.
  virtual at::Tensor read(const std::vector<std::int64_t>& positions) const = 0;
  /// Whether reading costs next to nothing.
  virtual bool in_memory() const { return false; }
  virtual PixelSums sums(std::int64_t position) const { return pixel_sums(read({position})[0]); }
  /// The same pictures as grey or colour, where this one knows better than to convert what it reads.
  virtual std::shared_ptr<const InputSource> as_channels(std::int64_t /*channels*/) const {
    return nullptr;
  }

  /// Numbers for the content of each, found once.
  const std::vector<std::uint64_t>& hashes() const;

 protected:
  /// Reads all.
  virtual std::vector<std::uint64_t> find_hashes() const;

 private:
  mutable std::once_flag found_;
  mutable std::vector<std::uint64_t> hashes_;
};

/// Inputs of samples: a choice from a source, in an order. Copies share the source.
class Inputs {
 public:
  Inputs() = default;
  /// Held in memory: uint8 [N, channels, height, width], or float32 [N, D, 1, 1]; with hashes where
  /// these are known.
  Inputs(at::Tensor held,  // NOLINT(google-explicit-constructor)
         std::vector<std::uint64_t> hashes = {});
  explicit Inputs(std::shared_ptr<const InputSource> source);

  bool defined() const { return source_ != nullptr; }
  std::int64_t size() const { return size_; }
  std::int64_t channels() const { return source_->shape()[0]; }
  std::int64_t height() const { return source_->shape()[1]; }
  std::int64_t width() const { return source_->shape()[2]; }
  std::array<std::int64_t, 3> shape() const { return source_->shape(); }
  bool embeddings() const { return source_->type() == at::kFloat; }
  bool in_memory() const { return source_->in_memory(); }

  at::Tensor at(const std::vector<std::int64_t>& positions) const;
  /// Those from `begin` to before `end`.
  at::Tensor slice(std::int64_t begin, std::int64_t end) const;
  at::Tensor all() const { return slice(0, size_); }
  Inputs select(const std::vector<std::int64_t>& positions) const;
  std::vector<std::uint64_t> hashes() const;
  PixelSums sums(std::int64_t position) const { return source_->sums(place(position)); }

  /// Each changed by `how`, which takes and gives [n, ...]: now where they lie in memory, else when
  /// they are read.
  Inputs mapped(const std::function<at::Tensor(const at::Tensor&)>& how) const;
  /// Pictures at that size, as ood::brought_to makes them.
  Inputs brought_to(const PictureSize& size) const;
  /// Pictures of 1 or 3 channels as such of 3 or 1.
  Inputs with_channels(std::int64_t channels) const;
  /// These, then those.
  Inputs followed_by(const Inputs& more) const;

 private:
  std::int64_t place(std::int64_t position) const {
    return positions_ ? (*positions_)[static_cast<std::size_t>(position)] : position;
  }

  std::shared_ptr<const InputSource> source_;
  std::shared_ptr<const std::vector<std::int64_t>> positions_;  // none: all
  std::int64_t size_ = 0;
};

/// "pictures", or "embeddings of N numbers", for errors.
std::string input_kind(bool embeddings, std::int64_t numbers);

/// How many samples to work on at a time, so that they take little memory.
std::int64_t rows_at_once(const std::array<std::int64_t, 3>& shape, std::int64_t most);

}  // namespace ood
