/*
 * Converting any checkpoint that ft_checkpoint_open reads into a folder of libft's own: safetensors files beside a
 * manifest.json, already split for the ranks that will read it. Such a folder is a source like any other, so it can be
 * loaded, and converted to another split or back to one.
 */
#ifndef FT_CONVERT_H
#define FT_CONVERT_H

#include <stddef.h>
#include <stdint.h>

#include <ft/export.h>
#include <ft/model.h>
#include <ft/status.h>

FT_BEGIN_DECLS

typedef struct ft_convert_options {
    size_t struct_size;
    const char *dtype;       /* "float32", "bfloat16" or "float16"; NULL or "auto": each weight as it is, to the bit */
    int32_t tensor_parallel; /* ranks a layer is split over; 0 is 1 */
    int32_t pipeline_parallel; /* stages the layers are dealt to; 0 is 1 */
    int32_t overwrite;         /* non-zero: replace the destination where it is a folder that ft_convert wrote */
    /* Text files for the folder, [num_files] each: a name (tokenizer.json) and contents that end with a zero. Those of
     * a source that is a folder are copied where none is given. */
    const char *const *file_names;
    const char *const *file_contents;
    int32_t num_files;
    ft_progress_callback progress; /* may be NULL; called from the calling thread with bytes written */
    void *user_data;
} ft_convert_options;

#define FT_CONVERT_OPTIONS_INIT {sizeof(ft_convert_options), 0, 0, 0, 0, 0, 0, 0, 0, 0}

/*
 * Writes `destination`, a folder that must not exist (but see overwrite). It appears, complete, when everything is on
 * the disk; a call that fails or is cancelled leaves nothing. Weights pass through memory a few megabytes at a time.
 * options may be NULL. FT_ERROR_INVALID_ARGUMENT when the destination exists, or the model cannot be split so.
 */
FT_API ft_status ft_convert(const char *source, const char *destination, const ft_convert_options *options);

FT_END_DECLS

#endif /* FT_CONVERT_H */
