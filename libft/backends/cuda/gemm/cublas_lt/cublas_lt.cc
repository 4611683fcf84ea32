#include "backends/cuda/gemm/cublas_lt/cublas_lt.h"

#include <dlfcn.h>

#include <initializer_list>

#include "core/library_folder.h"
#include "core/status.h"

namespace ft::cuda {
namespace {

#define FT_TEXT_OF(x) #x
#define FT_TEXT(x) FT_TEXT_OF(x)
constexpr const char* file_name = "libcublasLt.so." FT_TEXT(CUBLAS_VER_MAJOR);

// One that the process has already, then pip's, which lies beside the package that holds this library, then the
// system's.
void* open_library(std::string& path) {
  const std::string name = file_name, packages = folder_of(&open_cublas_lt) + "../../nvidia/";
  if (void* loaded = dlopen(name.c_str(), RTLD_NOW | RTLD_NOLOAD)) {
    path = name;
    return loaded;
  }
  for (const std::string& candidate : {packages + "cu" FT_TEXT(CUBLAS_VER_MAJOR) "/lib/" + name,
                                       packages + "cublas/lib/" + name, name, "/usr/local/cuda/lib64/" + name})
    if (void* opened = dlopen(candidate.c_str(), RTLD_NOW | RTLD_LOCAL)) {
      path = candidate;
      return opened;
    }
  return nullptr;
}

cublas_lt load() {
  cublas_lt lt;
  void* library = open_library(lt.path);
  if (!library)
    fail(FT_ERROR_UNSUPPORTED, file_name, " was not found; install it with `pip install 'pyft[cuda", CUBLAS_VER_MAJOR,
         "]'` or NVIDIA's CUDA toolkit");
  const auto find = [&](auto& function, const char* name) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, name));
    if (!function) fail(FT_ERROR_UNSUPPORTED, lt.path, " has no ", name, "; install a newer cuBLAS");
  };
  find(lt.create, "cublasLtCreate");
  find(lt.version, "cublasLtGetVersion");
  find(lt.matmul, "cublasLtMatmul");
  find(lt.heuristic, "cublasLtMatmulAlgoGetHeuristic");
  find(lt.algo_check, "cublasLtMatmulAlgoCheck");
  find(lt.desc_create, "cublasLtMatmulDescCreate");
  find(lt.desc_destroy, "cublasLtMatmulDescDestroy");
  find(lt.desc_set, "cublasLtMatmulDescSetAttribute");
  find(lt.layout_create, "cublasLtMatrixLayoutCreate");
  find(lt.layout_destroy, "cublasLtMatrixLayoutDestroy");
  find(lt.layout_set, "cublasLtMatrixLayoutSetAttribute");
  find(lt.preference_create, "cublasLtMatmulPreferenceCreate");
  find(lt.preference_destroy, "cublasLtMatmulPreferenceDestroy");
  find(lt.preference_set, "cublasLtMatmulPreferenceSetAttribute");
  return lt;
}

}  // namespace

const cublas_lt& open_cublas_lt() {
  static const cublas_lt lt = load();  // a failure is tried again at the next call
  return lt;
}

}  // namespace ft::cuda
