# The pyft extension modules: each pyft/*.pyx becomes one stable-ABI module (Python 3.11's limited API) beside
# pyft/*.py, linked to the libft.so in pyft/lib.
find_package(Python3 3.11 REQUIRED COMPONENTS Interpreter Development.Module)
execute_process(COMMAND ${Python3_EXECUTABLE} -m cython --version
  RESULT_VARIABLE FT_CYTHON_MISSING OUTPUT_VARIABLE FT_CYTHON_VERSION ERROR_VARIABLE FT_CYTHON_VERSION)
if(FT_CYTHON_MISSING)
  message(FATAL_ERROR "FT_BUILD_PYTHON needs Cython: ${Python3_EXECUTABLE} -m pip install 'cython>=3.1'")
endif()
string(REGEX MATCH "[0-9]+(\\.[0-9]+)+" FT_CYTHON_VERSION "${FT_CYTHON_VERSION}")
if(FT_CYTHON_VERSION VERSION_LESS 3.1)
  message(FATAL_ERROR "Cython ${FT_CYTHON_VERSION} cannot write limited-API code; install 'cython>=3.1'")
endif()

file(GLOB FT_PYX CONFIGURE_DEPENDS pyft/*.pyx)
file(GLOB FT_PYX_PARTS CONFIGURE_DEPENDS pyft/*.pxd pyft/*.pxi)
foreach(pyx IN LISTS FT_PYX)
  cmake_path(GET pyx STEM module)
  set(generated ${CMAKE_CURRENT_BINARY_DIR}/${module}.c)
  add_custom_command(OUTPUT ${generated}
    COMMAND ${Python3_EXECUTABLE} -m cython -3 --module-name pyft.${module} ${pyx} -o ${generated}
    DEPENDS ${pyx} ${FT_PYX_PARTS} WORKING_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR} VERBATIM)
  python3_add_library(${module} MODULE ${generated})
  target_compile_definitions(${module} PRIVATE Py_LIMITED_API=0x030B0000)
  target_include_directories(${module} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/libft)  # decode/option_list.inc
  target_link_libraries(${module} PRIVATE ft)
  set_target_properties(${module} PROPERTIES SUFFIX .abi3.so INSTALL_RPATH "$ORIGIN/lib")
  install(TARGETS ${module} LIBRARY DESTINATION . COMPONENT python)
endforeach()
