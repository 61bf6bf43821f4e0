#include "ood/data/class_list.h"

#include <c10/util/StringUtil.h>

#include <algorithm>
#include <cctype>
#include <map>
#include <set>
#include <sstream>

#include "ood/data/files.h"
#include "ood/errors.h"
#include "ood/registry/text.h"

namespace ood {
namespace {

// Items between commas; a backslash takes the next character as it is.
std::vector<std::string> items_of(const std::string& text) {
  std::vector<std::string> items(1);
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 1 < text.size())
      items.back() += text[++i];
    else if (text[i] == ',')
      items.emplace_back();
    else
      items.back() += text[i];
  }
  return items;
}

bool is_number(const std::string& s) {
  return !s.empty() && s.size() <= 9 && s.find_first_not_of("0123456789") == std::string::npos;
}

}  // namespace

std::vector<std::string> read_class_names(const std::filesystem::path& path) {
  constexpr std::uint64_t kLargest = 16 << 20;
  if (!std::filesystem::exists(path)) return {};
  std::string text = read_text(path, kLargest);
  if (const std::string mark = "\xef\xbb\xbf"; text.starts_with(mark)) text.erase(0, mark.size());
  std::vector<std::string> names;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    while (!line.empty() && std::isspace(static_cast<unsigned char>(line.back()))) line.pop_back();
    if (!line.empty()) names.push_back(line);
  }
  return names;
}

ClassList class_list(const std::string& text, const std::vector<std::string>& names) {
  ClassList p;
  if (text.empty()) return p;
  const bool numbers = std::any_of(names.begin(), names.end(), is_number);
  // Of a number its classes: by name where names are numbers, else by position. Both ends of a range
  // must be there.
  const auto add = [&](long first, long last) {
    if (numbers) {
      std::map<long, std::int64_t> found;
      for (std::size_t c = 0; c < names.size(); ++c)
        if (is_number(names[c]))
          if (const long v = std::stol(names[c]); first <= v && v <= last)
            found.emplace(v, static_cast<std::int64_t>(c));
      if (found.count(first) == 0 || found.count(last) == 0) return false;
      for (const auto& [unused, c] : found) p.classes.push_back(c);
    } else {
      if (last >= static_cast<long>(names.size())) return false;
      for (long c = first; c <= last; ++c) p.classes.push_back(c);
    }
    return true;
  };
  const auto range = [&] {
    if (!numbers) return "classes 0 to " + std::to_string(names.size() - 1);
    std::set<long> values;
    for (const auto& n : names)
      if (is_number(n)) values.insert(std::stol(n));
    if (values.size() == names.size() &&
        *values.rbegin() - *values.begin() + 1 == static_cast<long>(values.size()))
      return "classes " + std::to_string(*values.begin()) + " to " +
             std::to_string(*values.rbegin());
    return "classes " + c10::Join(", ", names);
  };
  for (const std::string& item : items_of(text)) {
    if (const auto it = std::find(names.begin(), names.end(), item); it != names.end()) {
      p.classes.push_back(it - names.begin());
      continue;
    }
    const auto dash = item.find('-');
    const std::string first = item.substr(0, dash);
    const std::string last = dash == std::string::npos ? first : item.substr(dash + 1);
    if (item.empty())
      p.error = "expected a class between the commas, got \"" + text + "\"";
    else if (!is_number(first) || !is_number(last))
      p.error = "expected class names, or numbers such as 0,1,4 or 0-3, got \"" + text + "\"" +
                did_you_mean(item, {names.begin(), names.end()});
    else if (std::stol(first) > std::stol(last))
      p.error = "expected a range from low to high, got " + item;
    else if (!add(std::stol(first), std::stol(last)))
      p.error = "expected " + range() + ", got " + item;
    if (!p.error.empty()) return p;
  }
  return p;
}

std::vector<std::int64_t> parse_classes(const std::string& flag, const std::string& text,
                                        const std::vector<std::string>& names) {
  auto list = class_list(text, names);
  if (!list.error.empty()) throw UsageError(flag + ": " + list.error);
  return list.classes;
}

}  // namespace ood
