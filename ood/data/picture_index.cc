#include "ood/data/picture_index.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <type_traits>

#include "ood/data/hash.h"
#include "ood/data/npy.h"
#include "ood/errors.h"
#include "ood/torch.h"

namespace ood {
namespace {

namespace fs = std::filesystem;

static_assert(std::is_trivially_copyable_v<IndexedPicture>);
constexpr std::int64_t kNumbers = sizeof(IndexedPicture) / sizeof(std::uint64_t);

std::uint64_t hash_of(const std::string& text) { return fnv1a(text.data(), text.size()); }

// Where indices are kept; "": nowhere.
fs::path cache_folder() {
  for (const auto& [variable, below] : {std::pair{"XDG_CACHE_HOME", ""}, {"HOME", ".cache"}})
    if (const char* value = std::getenv(variable); value != nullptr && *value == '/')
      return fs::path(value) / below / "ood";
  return {};
}

bool before(const IndexedPicture& a, const IndexedPicture& b) { return a.path < b.path; }

// The last row holds a hash of those before it.
std::vector<IndexedPicture> read(const fs::path& file) {
  std::error_code error;
  if (file.empty() || !fs::exists(file, error)) return {};
  try {
    const auto table = read_npy(file);
    if (table.dim() != 2 || table.size(1) != kNumbers || table.size(0) < 1 ||
        table.scalar_type() != torch::kLong)
      return {};
    std::vector<IndexedPicture> rows(static_cast<std::size_t>(table.size(0)));
    std::memcpy(static_cast<void*>(rows.data()), table.const_data_ptr(), table.nbytes());
    const auto expected = rows.back().path;
    rows.pop_back();
    if (fnv1a(rows.data(), rows.size() * sizeof rows[0]) != expected) return {};
    return rows;
  } catch (const DataError&) {
    return {};
  }
}

}  // namespace

IndexedPicture unread(const PictureFile& file) {
  IndexedPicture p;
  std::error_code error;
  p.path = hash_of(fs::absolute(file.path, error).lexically_normal().string());
  struct stat about {};
  if (::stat(file.opened().c_str(), &about) != 0) return p;
  p.bytes = file.archive.empty() ? static_cast<std::uint64_t>(about.st_size) : file.bytes;
  // What sets a time of modification leaves the time of change.
  const std::array<std::int64_t, 4> times{about.st_mtim.tv_sec, about.st_mtim.tv_nsec,
                                          about.st_ctim.tv_sec, about.st_ctim.tv_nsec};
  p.time = fnv1a(times.data(), sizeof times);
  return p;
}

PictureIndex::PictureIndex(const fs::path& folder, const PictureOptions& options) {
  const fs::path kept = cache_folder();
  if (kept.empty()) return;
  std::error_code error;
  std::string key = fs::absolute(folder, error).lexically_normal().string();
  // What changes the decoded pixels, or whether there are any.
  constexpr std::int64_t kDecoder = 2;  // raised when pictures come out otherwise
  for (const auto n :
       {kDecoder, options.size.height, options.size.width, std::int64_t{options.size.crop},
        options.max_pixels, std::int64_t{options.behind.value_or(0)}})
    key += " " + std::to_string(n);
  file_ = kept / ("pictures-" + hexadecimal(hash_of(key)) + ".npy");
  entries_ = read(file_);
}

std::optional<IndexedPicture> PictureIndex::find(const IndexedPicture& file) const {
  const auto it = std::lower_bound(entries_.begin(), entries_.end(), file, before);
  if (it == entries_.end() || it->path != file.path || it->bytes != file.bytes ||
      it->time != file.time)
    return std::nullopt;
  return *it;
}

void PictureIndex::add(const std::vector<IndexedPicture>& entries) {
  if (file_.empty()) return;
  std::vector<IndexedPicture> all = entries;
  all.insert(all.end(), entries_.begin(), entries_.end());
  std::stable_sort(all.begin(), all.end(), before);
  const auto same = [](const IndexedPicture& a, const IndexedPicture& b) {
    return a.path == b.path;
  };
  all.erase(std::unique(all.begin(), all.end(), same), all.end());
  std::erase_if(all, [](const IndexedPicture& p) { return p.channels == 0; });
  entries_ = all;
  if (all.empty()) return;
  IndexedPicture check;
  check.path = fnv1a(all.data(), all.size() * sizeof all[0]);
  all.push_back(check);
  std::error_code error;
  fs::create_directories(file_.parent_path(), error);
  try {
    write_npy(file_, torch::from_blob(all.data(), {static_cast<std::int64_t>(all.size()), kNumbers},
                                      torch::kLong));
  } catch (const DataError&) {  // NOLINT(bugprone-empty-catch): it is only faster with it
  }
}

}  // namespace ood
