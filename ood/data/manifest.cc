#include "ood/data/manifest.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>

#include "ood/data/csv.h"
#include "ood/data/files.h"
#include "ood/data/parts.h"
#include "ood/errors.h"
#include "ood/registry/text.h"

namespace ood {
namespace {

namespace fs = std::filesystem;

struct Row {
  std::string path, label, split;
  std::size_t line;
};

std::vector<Row> csv_rows(const fs::path& path, const std::string& text) {
  std::istringstream in(text);
  CsvReader csv(in, path);
  if (!csv.column("path"))
    throw DataError(at_line(path, 1) + ": expected a line of column names, path among them");
  std::vector<Row> rows;
  for (std::vector<std::string> fields; csv.next(fields);) {
    const auto field = [&](const char* name) {
      const auto i = csv.column(name);
      return i ? trimmed(fields[*i]) : std::string();
    };
    rows.push_back({field("path"), field("label"), field("split"), csv.line()});
  }
  return rows;
}

std::vector<Row> json_rows(const fs::path& path, const std::string& text) {
  std::vector<Row> rows;
  std::istringstream in(text);
  std::size_t number = 0;
  for (std::string line; std::getline(in, line);) {
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const auto row = parse_json(line);
    if (!row.is_object())
      throw DataError(at_line(path, number) +
                      ": expected a JSON object such as {\"path\": \"a.jpg\"}");
    const auto field = [&](const char* name) -> std::string {
      if (!row.contains(name) || row[name].is_null()) return "";
      if (row[name].is_string()) return row[name].get<std::string>();
      if (row[name].is_number_integer()) return row[name].dump();
      throw DataError(at_line(path, number) + ": " + name + ": expected a text, got " +
                      row[name].dump());
    };
    rows.push_back({field("path"), field("label"), field("split"), number});
  }
  return rows;
}

std::vector<Row> rows_of(const fs::path& path) {
  constexpr std::uint64_t kLargest = std::uint64_t{1} << 31;
  const std::string text = read_text(path, kLargest);
  auto rows =
      lower(path.extension().string()) == ".csv" ? csv_rows(path, text) : json_rows(path, text);
  for (Row& row : rows) {
    if (row.path.empty()) throw DataError(at_line(path, row.line) + ": expected a path, got none");
    row.path = (path.parent_path() / row.path).lexically_normal().string();
  }
  if (rows.empty()) throw DataError(path.string() + ": expected pictures, got an empty list");
  return rows;
}

}  // namespace

bool is_manifest_name(const fs::path& path) {
  const auto end = lower(path.extension().string());
  return end == ".csv" || end == ".jsonl";
}

std::vector<LabelledPicture> labelled_manifest(const fs::path& path) {
  auto rows = rows_of(path);
  std::stable_sort(rows.begin(), rows.end(),
                   [](const Row& a, const Row& b) { return fs::path(a.path) < fs::path(b.path); });
  std::vector<LabelledPicture> pictures;
  const bool parted =
      std::any_of(rows.begin(), rows.end(), [](const Row& r) { return !r.split.empty(); });
  for (const Row& row : rows) {
    if (row.label.empty())
      throw DataError(at_line(path, row.line) + ": expected a label, got none");
    if (parted && part_named(row.split).empty())
      throw DataError(at_line(path, row.line) + ": expected a split train, val or test, got \"" +
                      row.split + "\"");
    pictures.push_back({fs::path(row.path), row.label, row.split});
  }
  return pictures;
}

Dataset load_manifest(const fs::path& path, const PictureOptions& options) {
  return load_labelled(labelled_manifest(path), path, options);
}

std::vector<PictureFile> manifest_pictures(const fs::path& path) {
  std::vector<PictureFile> pictures;
  for (const Row& row : rows_of(path)) pictures.emplace_back(fs::path(row.path));
  return pictures;
}

}  // namespace ood
