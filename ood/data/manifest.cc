#include "ood/data/manifest.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "ood/data/files.h"
#include "ood/data/parts.h"
#include "ood/data/picture_folder.h"
#include "ood/errors.h"
#include "ood/registry/text.h"

namespace ood {
namespace {

namespace fs = std::filesystem;

struct Row {
  std::string path, label, split;
  std::size_t line;
};

std::string at_line(const fs::path& path, std::size_t line) {
  return path.string() + ":" + std::to_string(line);
}

// The fields of the next record (RFC 4180), which may go over several lines; false at the end.
bool next_record(std::istream& in, std::vector<std::string>& fields, std::size_t& line,
                 const fs::path& path) {
  fields.clear();
  if (in.peek() == std::char_traits<char>::eof()) return false;
  const std::size_t first = ++line;
  std::string field;
  bool quoted = false;
  for (int c; (c = in.get()) != std::char_traits<char>::eof();) {
    if (quoted) {
      line += c == '\n';
      if (c != '"')
        field += static_cast<char>(c);
      else if (in.peek() == '"')
        field += static_cast<char>(in.get());
      else
        quoted = false;
    } else if (c == '"' && field.empty()) {
      quoted = true;
    } else if (c == ',') {
      fields.push_back(std::exchange(field, {}));
    } else if (c == '\n') {
      break;
    } else if (c != '\r') {
      field += static_cast<char>(c);
    }
  }
  if (quoted) throw DataError(at_line(path, first) + ": a quoted field does not end");
  fields.push_back(field);
  return true;
}

std::vector<Row> csv_rows(const fs::path& path, const std::string& text) {
  std::istringstream in(text.rfind("\xef\xbb\xbf", 0) == 0 ? text.substr(3) : text);
  std::vector<std::string> fields, header;
  std::size_t line = 0;
  next_record(in, header, line, path);
  std::map<std::string, std::size_t> column;
  for (std::size_t i = 0; i < header.size(); ++i) column.emplace(lower(header[i]), i);
  if (column.count("path") == 0)
    throw DataError(at_line(path, 1) + ": expected a line of column names, path among them");
  std::vector<Row> rows;
  while (next_record(in, fields, line, path)) {
    if (fields.size() == 1 && fields[0].empty()) continue;
    if (fields.size() != header.size())
      throw DataError(at_line(path, line) + ": expected " + std::to_string(header.size()) +
                      " fields, as the first line has, got " + std::to_string(fields.size()));
    const auto field = [&](const char* name) {
      const auto it = column.find(name);
      return it == column.end() ? std::string() : fields[it->second];
    };
    rows.push_back({field("path"), field("label"), field("split"), line});
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

Dataset load_manifest(const fs::path& path, const PictureOptions& options) {
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
  return load_labelled(std::move(pictures), path, options);
}

std::vector<PictureFile> manifest_pictures(const fs::path& path) {
  std::vector<PictureFile> pictures;
  for (const Row& row : rows_of(path)) pictures.emplace_back(fs::path(row.path));
  return pictures;
}

}  // namespace ood
