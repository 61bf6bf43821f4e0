#include "ood/data/picture_inputs.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <map>
#include <mutex>
#include <optional>

#include "ood/data/hash.h"
#include "ood/data/numbers.h"
#include "ood/data/picture.h"
#include "ood/data/picture_index.h"
#include "ood/errors.h"
#include "ood/registry/listener.h"
#include "ood/torch.h"

namespace ood {
namespace {

namespace fs = std::filesystem;
using Positions = std::vector<std::int64_t>;

at::Tensor with_channels_of_one(const at::Tensor& picture, std::int64_t channels) {
  return with_channels(picture.unsqueeze(0), channels)[0];
}

std::uint64_t content_hash(const at::Tensor& picture) {
  const auto x = picture.contiguous();
  return fnv1a(x.const_data_ptr(), x.nbytes());
}

// Paths one after another in one text, for a data set may have a million.
class FileTable {
 public:
  void add(const PictureFile& file) {
    text_ += file.path.native();
    rows_.push_back({text_.size(), file.archive.native().size(), file.begin, file.bytes});
  }
  PictureFile operator[](std::int64_t i) const {
    const auto at = static_cast<std::size_t>(i);
    const auto begin = at == 0 ? 0 : rows_[at - 1].end;
    const Row& row = rows_[at];
    const auto path = text_.substr(begin, row.end - begin);
    if (row.archive == 0) return fs::path(path);
    return {path.substr(0, row.archive), path.substr(row.archive + 1), row.begin, row.bytes};
  }

 private:
  struct Row {
    std::size_t end;      // of the path in the text
    std::size_t archive;  // characters of the path that are the archive's
    std::uint64_t begin, bytes;
  };

  std::string text_;
  std::vector<Row> rows_;
};

// What several channels see of the files.
struct Files {
  FileTable table;
  std::vector<IndexedPicture> entries;
  PictureOptions options;
  std::int64_t height, width;
};

class FileInputs : public InputSource {
 public:
  FileInputs(std::shared_ptr<const Files> files, std::int64_t channels)
      : files_(std::move(files)), channels_(channels) {}

  std::int64_t size() const override { return static_cast<std::int64_t>(files_->entries.size()); }
  std::array<std::int64_t, 3> shape() const override {
    return {channels_, files_->height, files_->width};
  }
  at::ScalarType type() const override { return at::kByte; }

  at::Tensor read(const Positions& positions) const override {
    const auto n = static_cast<std::int64_t>(positions.size());
    auto out = torch::empty({n, channels_, files_->height, files_->width}, torch::kUInt8);
    at::parallel_for(0, n, 1, [&](std::int64_t begin, std::int64_t end) {
      for (auto i = begin; i < end; ++i)
        put_picture(picture(positions[static_cast<std::size_t>(i)]), out[i]);
    });
    return out;
  }

  PixelSums sums(std::int64_t position) const override {
    const auto& e = entry(position);
    if (!known(e)) return InputSource::sums(position);
    PixelSums s;
    for (std::size_t c = 0; c < static_cast<std::size_t>(channels_); ++c) {
      s.sum.push_back(e.sums[e.channels == 1 ? 0 : c]);
      s.squares.push_back(e.squares[e.channels == 1 ? 0 : c]);
    }
    return s;
  }

  std::shared_ptr<const InputSource> as_channels(std::int64_t channels) const override {
    return std::make_shared<FileInputs>(files_, channels);
  }

 protected:
  std::vector<std::uint64_t> find_hashes() const override {
    std::vector<std::uint64_t> hashes(files_->entries.size());
    at::parallel_for(0, size(), 16, [&](std::int64_t begin, std::int64_t end) {
      for (auto i = begin; i < end; ++i) {
        const auto& e = entry(i);
        hashes[static_cast<std::size_t>(i)] = !known(e)        ? content_hash(picture(i))
                                              : channels_ == 3 ? e.hash_as_colour
                                                               : e.hash;
      }
    });
    return hashes;
  }

 private:
  const IndexedPicture& entry(std::int64_t i) const {
    return files_->entries[static_cast<std::size_t>(i)];
  }
  // Of a colour picture as grey nothing is kept.
  bool known(const IndexedPicture& e) const { return channels_ == 3 || e.channels == 1; }

  at::Tensor picture(std::int64_t i) const {
    const PictureFile file = files_->table[i];
    const auto x = read_picture(file, files_->options);
    if (x.size(1) != files_->height || x.size(2) != files_->width)
      throw DataError(file.path.string() + ": has changed since the pictures were read first");
    return with_channels_of_one(x, channels_);
  }

  std::shared_ptr<const Files> files_;
  std::int64_t channels_;
};

// One pass over the files of a list.
class Pass {
 public:
  Pass(const PictureList& list, const fs::path& folder, const PictureOptions& options)
      : list_(list), folder_(folder), options_(options) {}

  struct Shape {
    std::int64_t channels, height, width;
  };
  // Of the first picture that decodes.
  Shape first() {
    for (const auto& file : list_.files) try {
        const auto p = read_picture(file, options_);
        height_ = p.size(1);
        width_ = p.size(2);
        if (options_.as_training)
          tell_of_size(folder_.string(), read_picture(file, {{}, options_.max_pixels}),
                       options_.size);
        return {p.size(0), height_, width_};
      } catch (const DataError& e) {
        if (list_.files.size() == 1) throw;
        if (options_.strict) throw DataError(std::string(e.what()) + " (`strict` refuses it)");
      }
    run(all(), [](std::int64_t, const at::Tensor&) {});  // names them
    throw DataError(folder_.string() + ": expected pictures, got none that decode");
  }

  Positions all() const { return range(0, static_cast<std::int64_t>(list_.files.size())); }

  // Visits those that decode, from several threads. DataError where sizes differ.
  void run(const Positions& wanted,
           const std::function<void(std::int64_t, const at::Tensor&)>& visit) {
    const auto n = static_cast<std::int64_t>(wanted.size());
    std::atomic<std::int64_t> next{0};
    std::atomic<bool> stop{false};
    started_ = std::chrono::steady_clock::now();
    done_ = 0;
    at::parallel_for(0, at::get_num_threads(), 1, [&](std::int64_t, std::int64_t) {
      for (std::int64_t i; !stop && (i = next++) < n;) {
        const auto at = wanted[static_cast<std::size_t>(i)];
        try {
          const auto picture = read_picture(list_.files[static_cast<std::size_t>(at)], options_);
          if (height_ > 0 && (picture.size(1) != height_ || picture.size(2) != width_)) {
            const std::scoped_lock lock(mutex_);
            others_[at] = std::to_string(picture.size(2)) + "x" + std::to_string(picture.size(1));
            stop = true;
            continue;
          }
          visit(at, picture);
        } catch (const DataError& e) {
          const std::scoped_lock lock(mutex_);
          failed_[at] = e.what();
          stop = stop || options_.strict;
        }
        said(n);
      }
    });
    if (!others_.empty())
      throw DataError(path(others_.begin()->first) + ": is " + others_.begin()->second +
                      ", others are " + std::to_string(width_) + "x" + std::to_string(height_) +
                      "; expected pictures of one size; set `image-size` N");
    name_failed();
  }

  const std::map<std::int64_t, std::string>& failed() const { return failed_; }
  Positions decoded() const {
    Positions good;
    for (const auto i : all())
      if (failed_.count(i) == 0) good.push_back(i);
    return good;
  }

 private:
  std::string path(std::int64_t i) const {
    return list_.files[static_cast<std::size_t>(i)].path.string();
  }

  // What takes no time is not worth a line.
  void said(std::int64_t total) {
    constexpr auto kPatience = std::chrono::seconds(2);
    const std::scoped_lock lock(mutex_);
    ++done_;
    if (std::chrono::steady_clock::now() - started_ > kPatience)
      listener().progress("reading " + folder_.filename().string(), done_, total, "pictures");
  }

  void name_failed() const {
    if (failed_.empty()) return;
    if (options_.strict) throw DataError(failed_.begin()->second + " (`strict` refuses it)");
    constexpr int kShown = 3;
    std::string names;
    int shown = 0;
    for (const auto& [i, reason] : failed_)
      if (shown++ < kShown) names += (names.empty() ? "" : ", ") + path(i);
    listener().warn(
        folder_.string() + ": " + std::to_string(failed_.size()) + " of " +
        std::to_string(list_.files.size()) + " pictures do not decode and are left out: " + names +
        (failed_.size() > kShown ? ", ..." : "") + "; the first: " + failed_.begin()->second);
  }

  const PictureList& list_;
  const fs::path& folder_;
  const PictureOptions& options_;
  std::int64_t height_ = 0, width_ = 0, done_ = 0;
  std::map<std::int64_t, std::string> failed_, others_;
  std::mutex mutex_;
  std::chrono::steady_clock::time_point started_;
};

// What is known of the pictures of a list, from an earlier reading or this one.
class KnownPictures {
 public:
  KnownPictures(const PictureList& list, const fs::path& folder, PictureOptions options,
                const Pass::Shape& first) {
    options.size.height = first.height;
    options.size.width = first.width;
    index_.emplace(folder, options);
    for (const auto& file : list.files) {
      entries_.push_back(unread(file));
      if (const auto found = index_->find(entries_.back())) entries_.back() = *found;
    }
  }

  const std::vector<IndexedPicture>& entries() const { return entries_; }
  // What does not decode now is not what it was.
  void forget(std::int64_t i) {
    auto& e = entries_[static_cast<std::size_t>(i)];
    news_ = news_ || e.channels > 0;
    e.channels = 0;
  }
  Positions missing() const {
    Positions all;
    for (std::size_t i = 0; i < entries_.size(); ++i)
      if (entries_[i].channels == 0) all.push_back(static_cast<std::int64_t>(i));
    return all;
  }
  // From several threads, each another picture.
  void learn(std::int64_t i, const at::Tensor& picture) {
    auto& e = entries_[static_cast<std::size_t>(i)];
    const auto hash = content_hash(picture);
    if (e.channels > 0 && e.hash == hash) return;
    e.channels = static_cast<std::uint64_t>(picture.size(0));
    e.hash = hash;
    e.hash_as_colour = e.channels == 1 ? content_hash(with_channels_of_one(picture, 3)) : hash;
    const auto sums = pixel_sums(picture);
    std::copy(sums.sum.begin(), sums.sum.end(), e.sums.begin());
    std::copy(sums.squares.begin(), sums.squares.end(), e.squares.begin());
    news_ = true;
  }
  void keep() {
    if (news_) index_->add(entries_);
  }

 private:
  std::optional<PictureIndex> index_;
  std::vector<IndexedPicture> entries_;
  std::atomic<bool> news_{false};
};

Inputs held(const PictureList& list, Pass& pass, const Pass::Shape& first, KnownPictures* known) {
  const auto n = static_cast<std::int64_t>(list.files.size());
  auto pictures = torch::empty({n, first.channels, first.height, first.width}, torch::kUInt8);
  std::map<std::int64_t, at::Tensor> others;  // of other channels than the first
  std::mutex mutex;
  pass.run(pass.all(), [&](std::int64_t i, const at::Tensor& picture) {
    if (known != nullptr) known->learn(i, picture);
    if (picture.size(0) == first.channels) {
      put_picture(picture, pictures[i]);
      return;
    }
    const std::scoped_lock lock(mutex);
    others[i] = picture;
  });
  // Grey among colour is colour.
  if (!others.empty() && first.channels == 1) pictures = with_channels(pictures, 3);
  for (const auto& [i, picture] : others)
    put_picture(with_channels_of_one(picture, 3), pictures[i]);
  const auto good = pass.decoded();
  if (!pass.failed().empty())
    pictures = pictures.index_select(0, torch::tensor(good, torch::kLong));
  if (known == nullptr) return pictures;
  std::vector<std::uint64_t> hashes;
  for (const auto i : good) {
    const auto& e = known->entries()[static_cast<std::size_t>(i)];
    hashes.push_back(pictures.size(1) == 3 ? e.hash_as_colour : e.hash);
  }
  return {pictures, hashes};
}

Inputs as_files(const PictureList& list, Pass& pass, const Pass::Shape& first,
                const PictureOptions& options, KnownPictures& known) {
  pass.run(known.missing(),
           [&](std::int64_t i, const at::Tensor& picture) { known.learn(i, picture); });
  const auto files = std::make_shared<Files>();
  files->options = options;
  files->height = first.height;
  files->width = first.width;
  std::uint64_t channels = 1;
  for (std::size_t i = 0; i < list.files.size(); ++i) {
    const auto& e = known.entries()[i];
    if (e.channels == 0) continue;
    channels = std::max(channels, e.channels);
    files->table.add(list.files[i]);
    files->entries.push_back(e);
  }
  return Inputs(std::make_shared<FileInputs>(files, static_cast<std::int64_t>(channels)));
}

}  // namespace

Samples load_picture_list(const PictureList& list, const fs::path& folder,
                          const PictureOptions& options) {
  Pass pass(list, folder, options);
  const auto first = pass.first();
  // Where the first is grey, others may not be.
  constexpr std::int64_t kChannels = 3;
  const auto bytes =
      static_cast<std::int64_t>(list.files.size()) * kChannels * first.height * first.width;
  const bool fits = bytes <= options.cache;
  std::optional<KnownPictures> known;
  if (options.indexed || options.leave_known || !fits) known.emplace(list, folder, options, first);
  const bool as_known = options.leave_known && 2 * known->missing().size() < list.files.size();
  Samples s;
  s.inputs = fits && !as_known ? held(list, pass, first, known ? &*known : nullptr)
                               : as_files(list, pass, first, options, *known);
  if (known) {
    for (const auto& [i, unused] : pass.failed()) known->forget(i);
    known->keep();
  }
  if (list.labels.empty()) return s;
  std::vector<std::int64_t> labels;
  for (const auto i : pass.decoded()) labels.push_back(list.labels[static_cast<std::size_t>(i)]);
  s.labels = torch::tensor(labels, torch::kLong);
  return s;
}

}  // namespace ood
