# Which build a library is of: libft and libft_cuda.so share C++ types, so each carries an identifier of what these come
# from, and libft opens no plug-in with another one (backends/plugin.h). It is a hash of the shared sources and of what
# compiles them, of no path and no time: the same sources and compiler give the same one anywhere.
#
# This file is included by CMakeLists.txt, and run as a script (`cmake -P`) when one of the sources has changed.
if(NOT CMAKE_SCRIPT_MODE_FILE)
  file(GLOB FT_SHARED_SOURCES CONFIGURE_DEPENDS RELATIVE ${CMAKE_CURRENT_SOURCE_DIR}
    include/ft/*.h libft/core/*.h libft/core/*.cc libft/ops/*.h libft/ops/gguf_blocks.cc libft/backends/*.h)
  list(TRANSFORM FT_SHARED_SOURCES PREPEND ${CMAKE_CURRENT_SOURCE_DIR}/ OUTPUT_VARIABLE shared_paths)
  # Of the flags those that change the layout of types, or which library they come from.
  string(TOUPPER "${CMAKE_BUILD_TYPE}" build_type)
  string(REGEX MATCHALL "(-D_GLIBCXX[^ ]*|-stdlib=[^ ]*|-fabi-[^ ]*|-fpack-struct[^ ]*|-fshort-[^ ]*|-m(32|64|x32|abi=[^ ]*))"
    flags " ${CMAKE_CXX_FLAGS} ${CMAKE_CXX_FLAGS_${build_type}}")
  set(FT_BUILD_ID_SOURCE ${CMAKE_CURRENT_BINARY_DIR}/generated/build_id.cc)
  add_custom_command(OUTPUT ${FT_BUILD_ID_SOURCE}
    COMMAND ${CMAKE_COMMAND}
      "-DCOMPILER=${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION} ${CMAKE_SYSTEM_PROCESSOR} ${flags}"
      "-DSOURCES=${FT_SHARED_SOURCES}" -DFOLDER=${CMAKE_CURRENT_SOURCE_DIR} -DOUTPUT=${FT_BUILD_ID_SOURCE}
      -P ${CMAKE_CURRENT_LIST_FILE}
    DEPENDS ${shared_paths} ${CMAKE_CURRENT_LIST_FILE} VERBATIM)
  add_custom_target(ft_build_id DEPENDS ${FT_BUILD_ID_SOURCE})  # once, whichever library that wants it is built first
  return()
endif()

set(all "${COMPILER}")
foreach(source IN LISTS SOURCES)
  file(SHA256 ${FOLDER}/${source} hash)
  string(APPEND all "\n${source} ${hash}")
endforeach()
string(SHA256 id "${all}")
string(SUBSTRING ${id} 0 16 id)
file(WRITE ${OUTPUT} "#include \"backends/plugin.h\"\n\nconst char* ft::build_id() { return \"${id}\"; }\n")
