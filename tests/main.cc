#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <sstream>

int main(int argc, char** argv) {
  if (const char* list = std::getenv("OOD_PLUGINS")) {
    std::stringstream stream(list);
    for (std::string path; std::getline(stream, path, ':');)
      if (dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL) == nullptr) {
        std::fprintf(stderr, "%s\n", dlerror());
        return 1;
      }
  }
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
