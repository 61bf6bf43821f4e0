#include "ood/data/csv.h"

#include <algorithm>
#include <streambuf>
#include <utility>

#include "ood/errors.h"
#include "ood/registry/text.h"

namespace ood {

std::string at_line(const std::filesystem::path& path, std::size_t line) {
  return path.string() + ":" + std::to_string(line);
}

std::string trimmed(const std::string& text) {
  const auto first = text.find_first_not_of(" \t"), last = text.find_last_not_of(" \t");
  return first == std::string::npos ? "" : text.substr(first, last + 1 - first);
}

CsvReader::CsvReader(std::istream& in, const std::filesystem::path& path) : in_(in), path_(path) {
  // Before the first field, which may be quoted.
  const std::string mark = "\xef\xbb\xbf";
  std::string first(mark.size(), '\0');
  if (!in_.read(first.data(), static_cast<std::streamsize>(first.size())) || first != mark) {
    in_.clear();
    in_.seekg(0);
  }
  record(columns_);
  if (separator_ == 0) separator_ = ',';
  for (auto& name : columns_) name = trimmed(name);
}

std::optional<std::size_t> CsvReader::column(const std::string& name) const {
  const auto it = std::find_if(columns_.begin(), columns_.end(),
                               [&](const std::string& c) { return lower(c) == name; });
  if (it == columns_.end()) return std::nullopt;
  return static_cast<std::size_t>(it - columns_.begin());
}

bool CsvReader::next(std::vector<std::string>& fields) {
  do
    if (!record(fields)) return false;
  while (fields.size() == 1 && fields[0].empty());
  if (fields.size() != columns_.size())
    throw DataError(at_line(path_, line_) + ": expected " + std::to_string(columns_.size()) +
                    " fields, as the first line has, got " + std::to_string(fields.size()));
  return true;
}

bool CsvReader::record(std::vector<std::string>& fields) {
  constexpr int kEnd = std::char_traits<char>::eof();
  std::streambuf& bytes = *in_.rdbuf();
  fields.clear();
  if (bytes.sgetc() == kEnd) return false;
  const std::size_t first = ++line_;
  std::string field;
  bool quoted = false;
  for (int c; (c = bytes.sbumpc()) != kEnd;) {
    if (quoted) {
      line_ += c == '\n';
      if (c != '"')
        field += static_cast<char>(c);
      else if (bytes.sgetc() == '"')
        field += static_cast<char>(bytes.sbumpc());
      else
        quoted = false;
    } else if (c == '"' && field.empty()) {
      quoted = true;
    } else if (c == separator_ || (separator_ == 0 && (c == ',' || c == ';' || c == '\t'))) {
      separator_ = c;
      fields.push_back(std::exchange(field, {}));
    } else if (c == '\n') {
      break;
    } else if (c != '\r') {
      field += static_cast<char>(c);
    }
  }
  if (quoted) throw DataError(at_line(path_, first) + ": a quoted field does not end");
  fields.push_back(field);
  return true;
}

}  // namespace ood
