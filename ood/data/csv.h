#pragma once

#include <filesystem>
#include <istream>
#include <optional>
#include <string>
#include <vector>

namespace ood {

/// CSV (RFC 4180) whose first line names the columns, record by record; between the fields stand
/// commas, semicolons or tabs, as in the first line. Blank lines are left out.
class CsvReader {
 public:
  /// `path` is what errors name.
  CsvReader(std::istream& in, const std::filesystem::path& path);

  /// Without blanks around them.
  const std::vector<std::string>& columns() const { return columns_; }
  /// Of a name in small letters, however it is written in the file.
  std::optional<std::size_t> column(const std::string& name) const;

  /// The fields of the next record, as many as there are columns; false at the end. DataError where
  /// there are more or less, or a quoted field does not end.
  bool next(std::vector<std::string>& fields);
  /// The line on which the last record ends.
  std::size_t line() const { return line_; }

 private:
  bool record(std::vector<std::string>& fields);

  std::istream& in_;
  std::filesystem::path path_;
  std::size_t line_ = 0;
  int separator_ = 0;  // until the first is met
  std::vector<std::string> columns_;
};

/// Without the blanks around it.
std::string trimmed(const std::string& text);

/// "PATH:LINE", for errors.
std::string at_line(const std::filesystem::path& path, std::size_t line);

}  // namespace ood
