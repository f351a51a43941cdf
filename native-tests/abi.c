/*
 * Prints the kernel's and libc's layouts and constants, one a line, for the test that compares the C# declarations with them:
 *   <struct> <size>
 *   <struct>.<field> <offset>
 *   <constant> <value>
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <linux/fuse.h>
#include <linux/io_uring.h>

#define SIZE(s) printf(#s " %zu\n", sizeof(struct s))
#define FIELD(s, f) printf(#s "." #f " %zu\n", offsetof(struct s, f))
#define CONSTANT(c) printf(#c " %llu\n", (unsigned long long)(c))

static void headers(void)
{
    SIZE(fuse_in_header);
    FIELD(fuse_in_header, len);
    FIELD(fuse_in_header, opcode);
    FIELD(fuse_in_header, unique);
    FIELD(fuse_in_header, nodeid);
    FIELD(fuse_in_header, uid);
    FIELD(fuse_in_header, gid);
    FIELD(fuse_in_header, pid);
    printf("fuse_in_header.total_extlen %zu\n", offsetof(struct fuse_in_header, pid) + 4);
    FIELD(fuse_in_header, padding);

    SIZE(fuse_out_header);
    FIELD(fuse_out_header, len);
    FIELD(fuse_out_header, error);
    FIELD(fuse_out_header, unique);
}

static void init(void)
{
    SIZE(fuse_init_in);
    FIELD(fuse_init_in, major);
    FIELD(fuse_init_in, minor);
    FIELD(fuse_init_in, max_readahead);
    FIELD(fuse_init_in, flags);
    FIELD(fuse_init_in, flags2);
    FIELD(fuse_init_in, unused);

    SIZE(fuse_init_out);
    FIELD(fuse_init_out, major);
    FIELD(fuse_init_out, minor);
    FIELD(fuse_init_out, max_readahead);
    FIELD(fuse_init_out, flags);
    FIELD(fuse_init_out, max_background);
    FIELD(fuse_init_out, congestion_threshold);
    FIELD(fuse_init_out, max_write);
    FIELD(fuse_init_out, time_gran);
    FIELD(fuse_init_out, max_pages);
    FIELD(fuse_init_out, map_alignment);
    FIELD(fuse_init_out, flags2);
    FIELD(fuse_init_out, unused);
}

static void attributes(void)
{
    SIZE(fuse_attr);
    FIELD(fuse_attr, ino);
    FIELD(fuse_attr, size);
    FIELD(fuse_attr, blocks);
    FIELD(fuse_attr, atime);
    FIELD(fuse_attr, mtime);
    FIELD(fuse_attr, ctime);
    FIELD(fuse_attr, atimensec);
    FIELD(fuse_attr, mtimensec);
    FIELD(fuse_attr, ctimensec);
    FIELD(fuse_attr, mode);
    FIELD(fuse_attr, nlink);
    FIELD(fuse_attr, uid);
    FIELD(fuse_attr, gid);
    FIELD(fuse_attr, rdev);
    FIELD(fuse_attr, blksize);
    FIELD(fuse_attr, flags);

    SIZE(fuse_attr_out);
    FIELD(fuse_attr_out, attr_valid);
    FIELD(fuse_attr_out, attr_valid_nsec);
    FIELD(fuse_attr_out, dummy);
    FIELD(fuse_attr_out, attr);

    SIZE(fuse_setattr_in);
    FIELD(fuse_setattr_in, valid);
    FIELD(fuse_setattr_in, padding);
    FIELD(fuse_setattr_in, fh);
    FIELD(fuse_setattr_in, size);
    FIELD(fuse_setattr_in, lock_owner);
    FIELD(fuse_setattr_in, atime);
    FIELD(fuse_setattr_in, mtime);
    FIELD(fuse_setattr_in, ctime);
    FIELD(fuse_setattr_in, atimensec);
    FIELD(fuse_setattr_in, mtimensec);
    FIELD(fuse_setattr_in, ctimensec);
    FIELD(fuse_setattr_in, mode);
    FIELD(fuse_setattr_in, unused4);
    FIELD(fuse_setattr_in, uid);
    FIELD(fuse_setattr_in, gid);
    FIELD(fuse_setattr_in, unused5);

    SIZE(fuse_kstatfs);
    FIELD(fuse_kstatfs, blocks);
    FIELD(fuse_kstatfs, bfree);
    FIELD(fuse_kstatfs, bavail);
    FIELD(fuse_kstatfs, files);
    FIELD(fuse_kstatfs, ffree);
    FIELD(fuse_kstatfs, bsize);
    FIELD(fuse_kstatfs, namelen);
    FIELD(fuse_kstatfs, frsize);
    FIELD(fuse_kstatfs, padding);
    FIELD(fuse_kstatfs, spare);

    SIZE(fuse_statfs_out);
    FIELD(fuse_statfs_out, st);
}

static void transfers(void)
{
    SIZE(fuse_open_in);
    FIELD(fuse_open_in, flags);
    printf("fuse_open_in.open_flags %zu\n", offsetof(struct fuse_open_in, flags) + 4);

    SIZE(fuse_open_out);
    FIELD(fuse_open_out, fh);
    FIELD(fuse_open_out, open_flags);
    printf("fuse_open_out.padding %zu\n", offsetof(struct fuse_open_out, open_flags) + 4);

    SIZE(fuse_read_in);
    FIELD(fuse_read_in, fh);
    FIELD(fuse_read_in, offset);
    FIELD(fuse_read_in, size);
    FIELD(fuse_read_in, read_flags);
    FIELD(fuse_read_in, lock_owner);
    FIELD(fuse_read_in, flags);
    FIELD(fuse_read_in, padding);

    SIZE(fuse_write_in);
    FIELD(fuse_write_in, fh);
    FIELD(fuse_write_in, offset);
    FIELD(fuse_write_in, size);
    FIELD(fuse_write_in, write_flags);
    FIELD(fuse_write_in, lock_owner);
    FIELD(fuse_write_in, flags);
    FIELD(fuse_write_in, padding);

    SIZE(fuse_write_out);
    FIELD(fuse_write_out, size);
    FIELD(fuse_write_out, padding);

    SIZE(fuse_lseek_in);
    FIELD(fuse_lseek_in, fh);
    FIELD(fuse_lseek_in, offset);
    FIELD(fuse_lseek_in, whence);
    FIELD(fuse_lseek_in, padding);

    SIZE(fuse_lseek_out);
    FIELD(fuse_lseek_out, offset);

    SIZE(fuse_fallocate_in);
    FIELD(fuse_fallocate_in, fh);
    FIELD(fuse_fallocate_in, offset);
    FIELD(fuse_fallocate_in, length);
    FIELD(fuse_fallocate_in, mode);
    FIELD(fuse_fallocate_in, padding);
}

static void libc_layouts(void)
{
    SIZE(msghdr);
    FIELD(msghdr, msg_iov);
    FIELD(msghdr, msg_control);
    FIELD(msghdr, msg_flags);
    printf("cmsghdr+int %zu\n", CMSG_SPACE(sizeof(int)));
    printf("cmsg_data %zu\n", CMSG_LEN(0));
    SIZE(statx);
    FIELD(statx, stx_mode);
    FIELD(statx, stx_size);
    FIELD(statx, stx_blocks);
    SIZE(sigaction);
    FIELD(sigaction, sa_handler);
    SIZE(flock);
    SIZE(iovec);
}

static void opcodes(void)
{
    CONSTANT(FUSE_LOOKUP);
    CONSTANT(FUSE_FORGET);
    CONSTANT(FUSE_GETATTR);
    CONSTANT(FUSE_SETATTR);
    CONSTANT(FUSE_OPEN);
    CONSTANT(FUSE_READ);
    CONSTANT(FUSE_WRITE);
    CONSTANT(FUSE_STATFS);
    CONSTANT(FUSE_RELEASE);
    CONSTANT(FUSE_FSYNC);
    CONSTANT(FUSE_GETXATTR);
    CONSTANT(FUSE_FLUSH);
    CONSTANT(FUSE_INIT);
    CONSTANT(FUSE_INTERRUPT);
    CONSTANT(FUSE_DESTROY);
    CONSTANT(FUSE_BATCH_FORGET);
    CONSTANT(FUSE_FALLOCATE);
    CONSTANT(FUSE_LSEEK);
}

static void flags(void)
{
    CONSTANT(FUSE_KERNEL_VERSION);
    CONSTANT(FUSE_ROOT_ID);
    CONSTANT(FUSE_COMPAT_22_INIT_OUT_SIZE);
    CONSTANT(FUSE_ASYNC_READ);
    CONSTANT(FUSE_BIG_WRITES);
    CONSTANT(FUSE_ASYNC_DIO);
    CONSTANT(FUSE_MAX_PAGES);
    CONSTANT(FUSE_INIT_EXT);
#ifdef FUSE_DIRECT_IO_ALLOW_MMAP
    CONSTANT(FUSE_DIRECT_IO_ALLOW_MMAP);
#endif
    CONSTANT(FOPEN_DIRECT_IO);
    CONSTANT(FOPEN_PARALLEL_DIRECT_WRITES);
    CONSTANT(FATTR_MODE);
    CONSTANT(FATTR_UID);
    CONSTANT(FATTR_GID);
    CONSTANT(FATTR_SIZE);
    CONSTANT(FATTR_ATIME);
    CONSTANT(FATTR_MTIME);
    CONSTANT(FATTR_ATIME_NOW);
    CONSTANT(FATTR_MTIME_NOW);
    CONSTANT(FATTR_CTIME);
    CONSTANT(FUSE_DEV_IOC_CLONE);
    CONSTANT(MS_NOSUID);
    CONSTANT(MS_NODEV);
    CONSTANT(MNT_DETACH);
    CONSTANT(UMOUNT_NOFOLLOW);
    CONSTANT(MSG_CMSG_CLOEXEC);
    CONSTANT(SCM_RIGHTS);
    CONSTANT(STATX_BASIC_STATS);
    CONSTANT(O_ACCMODE);
    CONSTANT(S_IFMT);
    CONSTANT(S_IFREG);
}

/* Debian 12's header is older. */
static void fuse_over_uring(void)
{
#ifdef FUSE_OVER_IO_URING
    CONSTANT(FUSE_OVER_IO_URING);
    CONSTANT(FUSE_IO_URING_CMD_REGISTER);
    CONSTANT(FUSE_IO_URING_CMD_COMMIT_AND_FETCH);
    SIZE(fuse_uring_ent_in_out);
    FIELD(fuse_uring_ent_in_out, flags);
    FIELD(fuse_uring_ent_in_out, commit_id);
    FIELD(fuse_uring_ent_in_out, payload_sz);
    FIELD(fuse_uring_ent_in_out, padding);
    FIELD(fuse_uring_ent_in_out, reserved);
    SIZE(fuse_uring_req_header);
    FIELD(fuse_uring_req_header, in_out);
    FIELD(fuse_uring_req_header, op_in);
    FIELD(fuse_uring_req_header, ring_ent_in_out);
    SIZE(fuse_uring_cmd_req);
    FIELD(fuse_uring_cmd_req, flags);
    FIELD(fuse_uring_cmd_req, commit_id);
    FIELD(fuse_uring_cmd_req, qid);
    FIELD(fuse_uring_cmd_req, padding);
#endif
}

static void io_uring(void)
{
    SIZE(io_uring_sqe);
    FIELD(io_uring_sqe, opcode);
    FIELD(io_uring_sqe, flags);
    FIELD(io_uring_sqe, ioprio);
    FIELD(io_uring_sqe, fd);
    FIELD(io_uring_sqe, off);
    FIELD(io_uring_sqe, cmd_op);
    FIELD(io_uring_sqe, addr);
    FIELD(io_uring_sqe, len);
    printf("io_uring_sqe.op_flags %zu\n", offsetof(struct io_uring_sqe, uring_cmd_flags));
    FIELD(io_uring_sqe, user_data);
    FIELD(io_uring_sqe, cmd);
    SIZE(io_uring_cqe);
    FIELD(io_uring_cqe, user_data);
    FIELD(io_uring_cqe, res);
    FIELD(io_uring_cqe, flags);
    SIZE(io_uring_params);
    FIELD(io_uring_params, sq_entries);
    FIELD(io_uring_params, cq_entries);
    FIELD(io_uring_params, flags);
    FIELD(io_uring_params, features);
    FIELD(io_uring_params, sq_off);
    FIELD(io_uring_params, cq_off);
    SIZE(io_sqring_offsets);
    FIELD(io_sqring_offsets, array);
    SIZE(io_cqring_offsets);
    FIELD(io_cqring_offsets, cqes);
    CONSTANT(IORING_SETUP_CQSIZE);
    CONSTANT(IORING_SETUP_SUBMIT_ALL);
    CONSTANT(IORING_SETUP_COOP_TASKRUN);
    CONSTANT(IORING_SETUP_SQE128);
    CONSTANT(IORING_SETUP_SINGLE_ISSUER);
    CONSTANT(IORING_SETUP_DEFER_TASKRUN);
    CONSTANT(IORING_FEAT_SINGLE_MMAP);
    CONSTANT(IORING_FEAT_NODROP);
    CONSTANT(IORING_ENTER_GETEVENTS);
    CONSTANT(IOSQE_ASYNC);
    CONSTANT(IORING_OP_FSYNC);
    CONSTANT(IORING_OP_READ);
    CONSTANT(IORING_OP_WRITE);
    CONSTANT(IORING_OP_URING_CMD);
    CONSTANT(IORING_FSYNC_DATASYNC);
}

int main(void)
{
    fuse_over_uring();
    io_uring();
    headers();
    init();
    attributes();
    transfers();
    libc_layouts();
    opcodes();
    flags();
    return 0;
}
