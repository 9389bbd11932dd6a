// A libnvrtc.so that compiles a kernel with g++ for the host executor (tests/simt). Its "CUBIN" is the
// image that the software GPU loads (image.h).
//
// SOFTWARE_NVRTC: settings, `key=value` separated by commas: version=13.2, archs=80+86+90, fails=1 (every
// compilation fails, as without libnvrtc-builtins).
// The build defines SIMT_FOLDER, the folder of simt.h, and COMPILER_FLAGS, the flags of every kernel.
#include "image.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include <elf.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char** environ;

namespace {

enum Result : int { SUCCESS = 0, INVALID_INPUT = 3, INVALID_PROGRAM = 4, INVALID_OPTION = 5, COMPILATION = 6 };

// Dynamic shared memory that every library has: SIMT_DYNAMIC_BYTES in tests/simt/simt.h.
constexpr uint64_t DYNAMIC_BYTES = 227 * 1024;

struct Program {
  std::string name, source, log;
  std::vector<std::pair<std::string, std::string>> headers;
  std::vector<char> image;
};

struct Settings {
  int major = 13, minor = 2;
  std::vector<int> architectures = {75, 80, 86, 87, 89, 90, 100, 103, 120};
  bool fails = false;
};

Settings read_settings() {
  Settings settings;
  const char* variable = getenv("SOFTWARE_NVRTC");
  std::stringstream entries(variable ? variable : "");
  for (std::string entry; std::getline(entries, entry, ',');) {
    const size_t equals = entry.find('=');
    const std::string key = entry.substr(0, equals);
    const std::string value = equals == std::string::npos ? "" : entry.substr(equals + 1);
    if (key == "version") {
      sscanf(value.c_str(), "%d.%d", &settings.major, &settings.minor);
    } else if (key == "archs") {
      settings.architectures.clear();
      std::stringstream numbers(value);
      for (std::string number; std::getline(numbers, number, '+');) {
        settings.architectures.push_back(atoi(number.c_str()));
      }
    } else if (key == "fails") {
      settings.fails = true;
    } else {
      fprintf(stderr, "software NVRTC: SOFTWARE_NVRTC: no setting is named %s\n", key.c_str());
      _exit(99);
    }
  }
  return settings;
}

const Settings& settings() {
  static const Settings read = read_settings();
  return read;
}

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void write_file(const std::string& path, const std::string& text) { std::ofstream(path, std::ios::binary) << text; }

// The name and the most threads of the kernel that the options select: `__global__ void
// __launch_bounds__(THREADS[, BLOCKS]) NAME(`, of which a kernel may lack the bounds.
struct Declared {
  std::string name, bounds;
};

bool declared(const Program& program, const std::string& wanted, Declared* found) {
  static const std::string START = "__global__ void ", BOUNDS = "__launch_bounds__(";
  const std::string& text = program.source;
  for (size_t at = text.find(START); at != std::string::npos; at = text.find(START, at + 1)) {
    size_t p = at + START.size();
    found->bounds = "1024";
    if (!text.compare(p, BOUNDS.size(), BOUNDS)) {
      const size_t close = text.find(')', p);
      const size_t bounds = p + BOUNDS.size(), comma = text.find(',', bounds);
      found->bounds = text.substr(bounds, std::min(comma, close) - bounds);
      p = text.find_first_not_of(" \n", close + 1);
    }
    found->name = text.substr(p, text.find('(', p) - p);
    if (wanted.empty() || found->name == wanted) return true;
  }
  return false;
}

// Runs g++; what it says goes to the log.
bool run(std::vector<std::string> command, const std::string& folder, std::string* log) {
  const std::string output = folder + "/log";
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 2, output.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  std::vector<char*> arguments;
  for (std::string& part : command) arguments.push_back(part.data());
  arguments.push_back(nullptr);
  pid_t child;
  int status = 1;
  const int failed = posix_spawnp(&child, arguments[0], &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (failed) return *log = std::string("cannot run g++: ") + strerror(failed), false;
  waitpid(child, &status, 0);
  *log = read_file(output).substr(0, 4000);
  return status == 0;
}

// Bytes of thread-local storage of a library, which is its shared memory.
uint64_t storage_of(const std::string& library) {
  const Elf64_Ehdr* head = (const Elf64_Ehdr*)library.data();
  for (int i = 0; i < head->e_phnum; i++) {
    const Elf64_Phdr* part = (const Elf64_Phdr*)(library.data() + head->e_phoff) + i;
    if (part->p_type == PT_TLS) return part->p_memsz;
  }
  return 0;
}

// The options of NVRTC that this program passes, as g++'s; false for any other.
bool translate(const std::string& option, std::vector<std::string>* flags, std::string* architecture,
               std::string* kernel, bool* fused) {
  const auto value = [&](const char* prefix) -> const char* {
    return option.rfind(prefix, 0) == 0 ? option.c_str() + strlen(prefix) : nullptr;
  };
  if (const char* name = value("--gpu-architecture=")) return *architecture = name, true;
  if (const char* name = value("-DKERNEL_")) *kernel = name;
  if (value("-D")) return flags->push_back(option), true;
  if (option == "--fmad=false") return *fused = false, true;
  return option == "--std=c++17" || option == "-default-device" || option == "-lineinfo" ||
         option == "--ptxas-options=-v";
}

bool known(const std::string& architecture) {
  for (int number : settings().architectures) {
    const std::string name = "sm_" + std::to_string(number);
    if (architecture == name || (number >= 90 && architecture == name + "a")) return true;
  }
  return false;
}

Result compile(Program* program, const std::string& folder, const std::vector<std::string>& options) {
  std::vector<std::string> flags;
  std::string architecture, kernel;
  // The default of NVRTC: a product and a sum may become one operation.
  bool fused = true;
  for (const std::string& option : options) {
    if (!translate(option, &flags, &architecture, &kernel, &fused)) {
      program->log = "nvrtc: error: unrecognized option " + option + " found\n";
      return INVALID_OPTION;
    }
  }
  if (!known(architecture)) {
    program->log = "nvrtc: error: invalid value for --gpu-architecture (-arch)\n";
    return INVALID_OPTION;
  }
  if (settings().fails) {
    program->log = "nvrtc: error: failed to open libnvrtc-builtins.so\n";
    return COMPILATION;
  }
  for (const auto& [name, text] : program->headers) write_file(folder + "/" + name, text);
  write_file(folder + "/" + program->name, program->source);
  Declared entry;
  const bool found = declared(*program, kernel, &entry);
  std::string unit = "#include \"simt.h\"\n#include \"" + program->name + "\"\n";
  if (found) {
    unit += "SIMT_EXPORT(" + entry.name + ")\nextern \"C\" unsigned launch_bounds() { return " + entry.bounds + "; }\n";
  }
  write_file(folder + "/kernel.cpp", unit);
  std::vector<std::string> command = {"g++", COMPILER_FLAGS, "-I", folder, "-I", SIMT_FOLDER};
  if (fused) command.push_back("-ffp-contract=fast");
  command.insert(command.end(), flags.begin(), flags.end());
  command.insert(command.end(), {"-c", folder + "/kernel.cpp", "-o", folder + "/kernel.o"});
  if (!run(command, folder, &program->log)) return COMPILATION;
  if (!found) {
    program->log = "software NVRTC: the source has no kernel that the options name\n";
    return COMPILATION;
  }
  const std::string library = folder + "/kernel.so";
  if (!run({"g++", "-shared", "-Wl,-Bsymbolic", folder + "/kernel.o", "-o", library}, folder, &program->log)) {
    return COMPILATION;
  }
  const std::string bytes = read_file(library);
  ImageHeader header = {};
  memcpy(header.magic, IMAGE_MAGIC, sizeof header.magic);
  snprintf(header.architecture, sizeof header.architecture, "%s", architecture.c_str());
  snprintf(header.kernel, sizeof header.kernel, "%s", entry.name.c_str());
  header.release = (uint32_t)settings().major;
  header.static_bytes = (uint32_t)(storage_of(bytes) - DYNAMIC_BYTES);
  header.bytes = bytes.size();
  program->image.resize(sizeof header + bytes.size());
  memcpy(program->image.data(), &header, sizeof header);
  memcpy(program->image.data() + sizeof header, bytes.data(), bytes.size());
  return SUCCESS;
}

}  // namespace

extern "C" {

Result nvrtcVersion(int* major, int* minor) { return *major = settings().major, *minor = settings().minor, SUCCESS; }

Result nvrtcGetNumSupportedArchs(int* count) { return *count = (int)settings().architectures.size(), SUCCESS; }

Result nvrtcGetSupportedArchs(int* numbers) {
  for (int number : settings().architectures) *numbers++ = number;
  return SUCCESS;
}

const char* nvrtcGetErrorString(int result) {
  switch (result) {
    case SUCCESS:
      return "NVRTC_SUCCESS";
    case INVALID_INPUT:
      return "NVRTC_ERROR_INVALID_INPUT";
    case INVALID_PROGRAM:
      return "NVRTC_ERROR_INVALID_PROGRAM";
    case INVALID_OPTION:
      return "NVRTC_ERROR_INVALID_OPTION";
    case COMPILATION:
      return "NVRTC_ERROR_COMPILATION";
    default:
      return "NVRTC_ERROR unknown";
  }
}

Result nvrtcCreateProgram(Program** program, const char* source, const char* name, int headers,
                          const char* const* texts, const char* const* names) {
  if (!program || !source || headers < 0) return INVALID_INPUT;
  *program = new Program{name ? name : "default_program", source, "", {}, {}};
  for (int i = 0; i < headers; i++) (*program)->headers.push_back({names[i], texts[i]});
  return SUCCESS;
}

Result nvrtcCompileProgram(Program* program, int count, const char* const* options) {
  if (!program) return INVALID_PROGRAM;
  const char* temporary = getenv("TMPDIR");
  std::string folder = std::string(temporary ? temporary : "/tmp") + "/software-nvrtc-XXXXXX";
  if (!mkdtemp(folder.data())) return program->log = "cannot create " + folder, COMPILATION;
  const Result result = compile(program, folder, {options, options + count});
  std::vector<std::string> names = {program->name, "kernel.cpp", "kernel.o", "kernel.so", "log"};
  for (const auto& header : program->headers) names.push_back(header.first);
  for (const std::string& name : names) unlink((folder + "/" + name).c_str());
  rmdir(folder.c_str());
  return result;
}

Result nvrtcDestroyProgram(Program** program) {
  if (!program || !*program) return INVALID_PROGRAM;
  delete *program;
  *program = nullptr;
  return SUCCESS;
}

Result nvrtcGetProgramLogSize(Program* program, size_t* size) { return *size = program->log.size() + 1, SUCCESS; }
Result nvrtcGetProgramLog(Program* program, char* log) {
  memcpy(log, program->log.c_str(), program->log.size() + 1);
  return SUCCESS;
}

Result nvrtcGetCUBINSize(Program* program, size_t* size) { return *size = program->image.size(), SUCCESS; }
Result nvrtcGetCUBIN(Program* program, char* image) {
  memcpy(image, program->image.data(), program->image.size());
  return SUCCESS;
}

}  // extern "C"
