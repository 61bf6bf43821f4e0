#include "ood/data/table.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <optional>
#include <set>

#include "ood/data/arrays.h"
#include "ood/data/csv.h"
#include "ood/data/parts.h"
#include "ood/errors.h"
#include "ood/registry/listener.h"
#include "ood/registry/text.h"
#include "ood/torch.h"

namespace ood {
namespace {

namespace fs = std::filesystem;

std::ifstream opened(const fs::path& path) {
  if (!fs::is_regular_file(path))
    throw DataError(path.string() + ": expected a file, got another thing");
  std::ifstream in(path, std::ios::binary);
  if (!in) throw DataError(path.string() + ": cannot be read");
  return in;
}

std::optional<double> number_of(const std::string& field) {
  const auto text = trimmed(field);
  const char* first = text.data() + text.starts_with('+');
  double value = 0;
  const auto [end, error] = std::from_chars(first, text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// A table of numbers alone has none.
void check_names(const std::vector<std::string>& names, const fs::path& path) {
  const auto where = at_line(path, 1) + ": expected ";
  std::set<std::string> seen;
  for (const auto& written : names) {
    const auto name = lower(written);
    if (!name.empty() && !seen.insert(name).second)
      throw DataError(where + "a name of its own for each column, got \"" + name + "\" twice");
    if (name.find_first_of(".e-") != std::string::npos && number_of(name))
      throw DataError(where + "a line of column names, got numbers: " + name);
  }
}

// pandas writes "2.0" where a label was missing once.
void shorten_whole_numbers(std::vector<std::string>& labels) {
  const auto is_whole = [](const std::string& l) {
    const auto point = l.find('.');
    return point != std::string::npos && point > 0 && point + 1 < l.size() &&
           l.find_first_not_of("0123456789") == point &&
           l.find_first_not_of('0', point + 1) == std::string::npos;
  };
  if (std::all_of(labels.begin(), labels.end(), is_whole))
    for (auto& l : labels) l.resize(l.find('.'));
}

struct Table {
  Samples all;                      // without labels where there is no such column
  std::vector<std::string> names;   // of the classes
  std::vector<std::string> splits;  // of the rows; of undivided ones empty
};

Table read_table(const fs::path& path) {
  auto in = opened(path);
  CsvReader csv(in, path);
  check_names(csv.columns(), path);
  const auto label = csv.column("label"), split = csv.column("split");
  std::vector<std::size_t> numbers;
  for (std::size_t i = 0; i < csv.columns().size(); ++i)
    if (const auto& name = csv.columns()[i]; name.empty() || lower(name).starts_with("unnamed:"))
      listener().tell("note: " + path.string() + ": column " + std::to_string(i + 1) +
                      " has no name and is left out, as an index");
    else if (i != label && i != split)
      numbers.push_back(i);
  std::vector<float> values;
  std::vector<std::string> labels, splits;
  for (std::vector<std::string> fields; csv.next(fields);) {
    const auto where = at_line(path, csv.line());
    for (const auto i : numbers) {
      values.push_back(static_cast<float>(number_of(fields[i]).value_or(std::nan(""))));
      if (!std::isfinite(values.back()))
        throw DataError(
            where + ": " + csv.columns()[i] + ": expected a finite number, got \"" + fields[i] +
            "\"; a class stands in a column label, the file of a picture in a column path");
    }
    if (label) labels.push_back(trimmed(fields[*label]));
    if (label && labels.back().empty()) throw DataError(where + ": expected a label, got none");
    splits.push_back(split ? trimmed(fields[*split]) : "");
    // The first row says whether the table is divided.
    const auto& part = splits.back();
    if (splits.front().empty() ? !part.empty() : part_named(part).empty())
      throw DataError(where + ": expected a split train, val or test in every row or none, got \"" +
                      part + "\"");
  }
  if (splits.empty() || numbers.empty())
    throw DataError(path.string() +
                    ": expected a line of column names, then rows of numbers or, in "
                    "a list of pictures, with a column path; got none");
  const auto n = static_cast<std::int64_t>(splits.size());
  Table t;
  t.all.inputs = torch::tensor(values).view({n, -1, 1, 1});
  if (!splits.front().empty()) t.splits = std::move(splits);
  if (!label) return t;
  shorten_whole_numbers(labels);
  const std::set<std::string> classes(labels.begin(), labels.end());
  t.names.assign(classes.begin(), classes.end());
  std::vector<std::int64_t> numbers_of_rows;
  for (const auto& name : labels)
    numbers_of_rows.push_back(std::lower_bound(t.names.begin(), t.names.end(), name) -
                              t.names.begin());
  t.all.labels = torch::tensor(numbers_of_rows, torch::kLong);
  return t;
}

Dataset dataset_of(const Table& t, const fs::path& path) {
  Dataset d;
  d.class_names = t.names;
  const auto rows = [&](std::string_view part) {
    std::vector<std::int64_t> of_part;
    for (std::size_t i = 0; i < t.splits.size(); ++i)
      if (part_named(t.splits[i]) == part) of_part.push_back(static_cast<std::int64_t>(i));
    return of_part.empty() ? Samples() : t.all.select(of_part);
  };
  d.train = t.splits.empty() ? t.all : rows("train");
  d.test = rows("test");
  d.validation = rows("val");
  complete(d, path.string(), path.string());
  return d;
}

}  // namespace

bool is_table(const fs::path& path) {
  if (lower(path.extension().string()) != ".csv" || !fs::is_regular_file(path)) return false;
  auto in = opened(path);
  return !CsvReader(in, path).column("path");
}

Dataset load_table(const fs::path& path) {
  const auto table = read_table(path);
  if (!table.all.labels.defined())
    throw DataError(path.string() + ": expected a column label, with the name of each row's class");
  return dataset_of(table, path);
}

Inputs load_table_inputs(const fs::path& path) {
  const auto table = read_table(path);
  if (!table.all.labels.defined() || table.splits.empty()) return table.all.inputs;
  return test_data_of(path.string(), dataset_of(table, path).test.inputs);
}

}  // namespace ood
