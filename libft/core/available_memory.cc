#include "core/available_memory.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <string_view>
#include <vector>

namespace ft {
namespace {

// Of a file in /proc or /sys, whose size is not known beforehand; nothing where it cannot be read. No stream: those
// keep quiet when memory runs out.
std::optional<std::string> read_text(const std::string& path) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return std::nullopt;
  const struct closer {
    int file;
    ~closer() { close(file); }
  } close_at_end{file};
  std::string text;
  char block[4096];
  for (ssize_t got; (got = read(file, block, sizeof block)) != 0;) {
    if (got < 0) return std::nullopt;
    text.append(block, static_cast<size_t>(got));
  }
  return text;
}

// The parts between separators, empty ones too.
std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (size_t end; (end = text.find(separator)) != text.npos; text.remove_prefix(end + 1))
    parts.push_back(text.substr(0, end));
  parts.push_back(text);
  return parts;
}

bool holds(const std::vector<std::string_view>& parts, std::string_view wanted) {
  return std::ranges::find(parts, wanted) != parts.end();
}

// The number that a text begins with, after spaces; nothing for a word such as "max".
std::optional<size_t> number(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
  size_t value = 0;
  const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), value);
  return fault == std::errc() ? std::optional(value) : std::nullopt;
}

std::optional<size_t> number_in(const std::string& path) {
  const std::optional<std::string> text = read_text(path);
  return text ? number(*text) : std::nullopt;
}

// The number behind a name that begins a line, as /proc/meminfo ("MemAvailable:   123 kB") and memory.stat have it.
std::optional<size_t> number_of(std::string_view text, std::string_view name) {
  for (std::string_view line : split(text, '\n'))
    if (line.starts_with(name)) return number(line.substr(name.size()));
  return std::nullopt;
}

// Files of a control group's folder and lines of its memory.stat that count the group and all groups below it.
struct file_names {
  const char *limit, *usage, *inactive_file, *active_file;
};
constexpr file_names version_1 = {"/memory.limit_in_bytes", "/memory.usage_in_bytes", "total_inactive_file ",
                                  "total_active_file "};
constexpr file_names version_2 = {"/memory.max", "/memory.current", "inactive_file ", "active_file "};

std::optional<size_t> left_of(const std::string& folder, const file_names& names) {
  const std::optional<size_t> limit = number_in(folder + names.limit), usage = number_in(folder + names.usage);
  if (!limit || !usage) return std::nullopt;
  const std::string stat = read_text(folder + "/memory.stat").value_or("");
  const size_t cached =
      number_of(stat, names.inactive_file).value_or(0) + number_of(stat, names.active_file).value_or(0);
  return *limit - std::min(*limit, *usage - std::min(*usage, cached));
}

// mountinfo writes spaces and the like as three octal digits.
std::string unescaped(std::string_view text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    unsigned code = 0;
    const char* digits = text.data() + i + 1;
    if (text[i] == '\\' && i + 3 < text.size() && std::from_chars(digits, digits + 3, code, 8).ptr == digits + 3) {
      plain += static_cast<char>(code);
      i += 3;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

// Where the process's group lies below a mount that shows the groups from `top` down; "" for one that it does not show,
// as where a container has its own group mounted under the host's name of it.
std::string below(const std::string& top, const std::string& group) {
  const std::string inside = top == "/" ? "" : top;
  const bool shown = group.starts_with(inside) && (group.size() == inside.size() || group[inside.size()] == '/');
  if (!shown || group == "/" || group.find("/..") != group.npos) return "";
  return group.substr(inside.size());
}

void keep_least(std::optional<size_t>& least, std::optional<size_t> other) {
  if (other) least = std::min(least.value_or(*other), *other);
}

}  // namespace

std::optional<size_t> available_memory(const std::string& root) {
  std::optional<size_t> least;
  if (const auto info = read_text(root + "/proc/meminfo"))
    if (const auto kib = number_of(*info, "MemAvailable:")) least = *kib * 1024;

  // The process's group in each hierarchy: "4:memory:/a/b" and "0::/a/b" (proc_pid_cgroup in proc(5), cgroups(7)).
  std::optional<std::string> group_1, group_2;
  const std::string groups = read_text(root + "/proc/self/cgroup").value_or("");
  for (std::string_view line : split(groups, '\n')) {
    const std::vector<std::string_view> parts = split(line, ':');
    if (parts.size() < 3) continue;
    const std::string_view path = line.substr(parts[0].size() + parts[1].size() + 2);
    if (holds(split(parts[1], ','), "memory")) group_1 = path;
    if (parts[1].empty()) group_2 = path;
  }

  // "36 35 98:0 <top> <mount point> <options> - <type> <source> <options>"
  const std::string mounts = read_text(root + "/proc/self/mountinfo").value_or("");
  for (std::string_view line : split(mounts, '\n')) {
    const std::vector<std::string_view> parts = split(line, ' ');
    const auto dash = std::ranges::find(parts, "-");
    if (parts.size() < 5 || parts.end() - dash < 4) continue;
    const bool is_1 = dash[1] == "cgroup" && holds(split(dash[3], ','), "memory"), is_2 = dash[1] == "cgroup2";
    const std::optional<std::string>& group = is_1 ? group_1 : group_2;
    if (!(is_1 || is_2) || !group) continue;
    const std::string mount = root + unescaped(parts[4]);
    std::string rest = below(unescaped(parts[3]), *group);
    for (;; rest.resize(rest.rfind('/'))) {  // a limit holds for all groups below it
      keep_least(least, left_of(mount + rest, is_1 ? version_1 : version_2));
      if (rest.empty()) break;
    }
  }
  return least;
}

}  // namespace ft
