# nlohmann/json: the system's package if there is one, else the headers of the PyPI package `nlohmann-json`.
find_package(nlohmann_json 3.11 QUIET)
if(NOT nlohmann_json_FOUND)
  find_package(Python3 QUIET COMPONENTS Interpreter)
  if(Python3_FOUND)
    execute_process(
      COMMAND ${Python3_EXECUTABLE} -c "import nlohmann_json, os; print(os.path.join(nlohmann_json.__path__[0], 'include'))"
      OUTPUT_VARIABLE FT_JSON_HINT OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  endif()
  find_path(FT_JSON_INCLUDE_DIR nlohmann/json.hpp HINTS ${FT_JSON_HINT})
  if(NOT FT_JSON_INCLUDE_DIR)
    message(FATAL_ERROR "nlohmann/json was not found. Install it with `apt-get install nlohmann-json3-dev` or "
                        "`pip install nlohmann-json`, or set FT_JSON_INCLUDE_DIR to the folder that holds nlohmann/json.hpp.")
  endif()
  add_library(nlohmann_json::nlohmann_json INTERFACE IMPORTED)
  target_include_directories(nlohmann_json::nlohmann_json SYSTEM INTERFACE ${FT_JSON_INCLUDE_DIR})
endif()

set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
