! Fortran's side of myriarch.h, which says what the functions do. Compiled with the program that uses it: modules of one
! compiler are of no use to another.
!
! Names and lines end with a NUL: "square"//c_null_char. Unsigned numbers of C are signed here. A function that tasks call is
! an `integer(c_int) function square(task) bind(c)` with a `type(myriarch_task), intent(inout) :: task`; c_funloc(square)
! registers it. It is called from several threads at once: its variables have to be its own (gfortran: -frecursive, and no
! `save`).

module myriarch
    use, intrinsic :: iso_c_binding
    implicit none
    private

    public :: myriarch_task, myriarch_options, myriarch_task_options, myriarch_outcome, myriarch_counts
    public :: myriarch_program_new, myriarch_program_free, myriarch_register, myriarch_prepare, myriarch_options_init
    public :: myriarch_enter_f, myriarch_finish, myriarch_leave, myriarch_lost, myriarch_progress
    public :: myriarch_without_all, myriarch_end
    public :: myriarch_open, myriarch_open_processes, myriarch_submit, myriarch_submit_shell, myriarch_submit_array
    public :: myriarch_close, myriarch_next, myriarch_try_next, myriarch_wait, myriarch_cancel, myriarch_drop
    public :: myriarch_message, myriarch_text

    integer(c_int), parameter, public :: MYRIARCH_OK = 0
    integer(c_int), parameter, public :: MYRIARCH_ERROR_ARGUMENT = -1
    integer(c_int), parameter, public :: MYRIARCH_ERROR_STATE = -2
    integer(c_int), parameter, public :: MYRIARCH_ERROR_TOO_LARGE = -3
    integer(c_int), parameter, public :: MYRIARCH_ERROR_UNREAD = -4
    integer(c_int), parameter, public :: MYRIARCH_ERROR_NO_FUNCTION = -5
    integer(c_int), parameter, public :: MYRIARCH_ERROR_NOT_PREPARED = -6
    integer(c_int), parameter, public :: MYRIARCH_ERROR_UNFIT = -7
    integer(c_int), parameter, public :: MYRIARCH_ERROR_BROKEN = -8
    integer(c_int), parameter, public :: MYRIARCH_ERROR_PANIC = -9
    integer(c_int), parameter, public :: MYRIARCH_ERROR_DIFFERS = -10
    integer(c_int), parameter, public :: MYRIARCH_ERROR_STOPPED = -11
    integer(c_int), parameter, public :: MYRIARCH_ERROR_DIR = -12

    integer(c_int), parameter, public :: MYRIARCH_PIN_DEFAULT = 0
    integer(c_int), parameter, public :: MYRIARCH_PIN_CORE = 1
    integer(c_int), parameter, public :: MYRIARCH_PIN_NUMA = 2
    integer(c_int), parameter, public :: MYRIARCH_PIN_NONE = 3

    integer(c_int), parameter, public :: MYRIARCH_RECORD_DEFAULT = 0
    integer(c_int), parameter, public :: MYRIARCH_RECORD_ALL = 1
    integer(c_int), parameter, public :: MYRIARCH_RECORD_FAILURES = 2
    integer(c_int), parameter, public :: MYRIARCH_RECORD_NONE = 3

    ! What a function is given; see myriarch_task.h.
    type, bind(c) :: myriarch_task
        integer(c_int64_t) :: index
        type(c_ptr) :: payload
        integer(c_size_t) :: payload_bytes
        type(c_ptr) :: value
        integer(c_size_t) :: value_capacity
        integer(c_size_t) :: value_bytes
        integer(c_int32_t) :: attempt
        integer(c_int32_t) :: slot
        integer(c_int32_t) :: cores
    end type

    type, bind(c) :: myriarch_options
        integer(c_int32_t) :: slots_per_node = 0
        integer(c_int32_t) :: ranks_per_node = 0
        integer(c_int) :: dedicated_manager = 0
        integer(c_int) :: pin = MYRIARCH_PIN_DEFAULT
        integer(c_int) :: recording = MYRIARCH_RECORD_DEFAULT
        ! c_loc of a target that ends with a NUL, or c_null_ptr.
        type(c_ptr) :: dir = c_null_ptr
        integer(c_int) :: resume = 0
        integer(c_int) :: retry_failed = 0
        real(c_double) :: sync_seconds = 0
        real(c_double) :: lost_after_seconds = 0
        integer(c_int) :: talks_on = 0
        real(c_double) :: longest_absence_seconds = 0
    end type

    type, bind(c) :: myriarch_task_options
        integer(c_int32_t) :: cores = 0
        integer(c_int32_t) :: retries = 0
    end type

    type, bind(c) :: myriarch_outcome
        integer(c_int64_t) :: index
        integer(c_int) :: ok
        type(c_ptr) :: status
        type(c_ptr) :: value
        integer(c_size_t) :: value_bytes
        type(c_ptr) :: error_output
        integer(c_size_t) :: error_output_bytes
        integer(c_int32_t) :: attempts
        integer(c_int32_t) :: rank
        integer(c_int32_t) :: node
        real(c_double) :: seconds
    end type

    type, bind(c) :: myriarch_counts
        integer(c_int64_t) :: ok
        integer(c_int64_t) :: failed
        integer(c_int64_t) :: cancelled
    end type

    interface
        type(c_ptr) function myriarch_program_new() bind(c)
            import :: c_ptr
        end function

        subroutine myriarch_program_free(program) bind(c)
            import :: c_ptr
            type(c_ptr), value :: program
        end subroutine

        integer(c_int) function myriarch_register(program, name, function) bind(c)
            import :: c_int, c_ptr, c_funptr, c_char
            type(c_ptr), value :: program
            character(kind=c_char), intent(in) :: name(*)
            type(c_funptr), value :: function
        end function

        integer(c_int) function myriarch_prepare() bind(c)
            import :: c_int
        end function

        subroutine myriarch_options_init(options) bind(c)
            import :: myriarch_options
            type(myriarch_options), intent(out) :: options
        end subroutine

        ! The communicator is that of `use mpi`, or the MPI_VAL of one of mpi_f08. Without options, the defaults.
        integer(c_int) function myriarch_enter_f(program, communicator, options, session) bind(c)
            import :: c_int, c_ptr, myriarch_options
            type(c_ptr), value :: program
            integer(c_int), value :: communicator
            type(myriarch_options), intent(in), optional :: options
            type(c_ptr), intent(out) :: session
        end function

        integer(c_int) function myriarch_finish(session) bind(c)
            import :: c_int, c_ptr
            type(c_ptr), value :: session
        end function

        integer(c_int) function myriarch_leave(session) bind(c)
            import :: c_int, c_ptr
            type(c_ptr), value :: session
        end function

        ! The first `capacity` of them go to `ranks`.
        integer(c_int) function myriarch_lost(session, ranks, capacity) bind(c)
            import :: c_int, c_int32_t, c_ptr, c_size_t
            type(c_ptr), value :: session
            integer(c_int32_t), intent(out) :: ranks(*)
            integer(c_size_t), value :: capacity
        end function

        integer(c_int) function myriarch_without_all() bind(c)
            import :: c_int
        end function

        ! Units should be closed before.
        subroutine myriarch_end(status) bind(c)
            import :: c_int
            integer(c_int), value :: status
        end subroutine

        integer(c_int) function myriarch_progress(session) bind(c)
            import :: c_int, c_ptr
            type(c_ptr), value :: session
        end function

        integer(c_int) function myriarch_open(session, function, options, bundle) bind(c)
            import :: c_int, c_ptr, c_char, c_int64_t, myriarch_task_options
            type(c_ptr), value :: session
            character(kind=c_char), intent(in) :: function(*)
            type(myriarch_task_options), intent(in), optional :: options
            integer(c_int64_t), intent(out) :: bundle
        end function

        integer(c_int) function myriarch_open_processes(session, options, bundle) bind(c)
            import :: c_int, c_ptr, c_int64_t, myriarch_task_options
            type(c_ptr), value :: session
            type(myriarch_task_options), intent(in), optional :: options
            integer(c_int64_t), intent(out) :: bundle
        end function

        ! The payload is c_loc of a target, or c_null_ptr where it has no bytes.
        integer(c_int) function myriarch_submit(session, bundle, payload, payload_bytes, index) bind(c)
            import :: c_int, c_ptr, c_size_t, c_int64_t
            type(c_ptr), value :: session
            integer(c_int64_t), value :: bundle
            type(c_ptr), value :: payload
            integer(c_size_t), value :: payload_bytes
            integer(c_int64_t), intent(out), optional :: index
        end function

        integer(c_int) function myriarch_submit_shell(session, bundle, command, index) bind(c)
            import :: c_int, c_ptr, c_char, c_int64_t
            type(c_ptr), value :: session
            integer(c_int64_t), value :: bundle
            character(kind=c_char), intent(in) :: command(*)
            integer(c_int64_t), intent(out), optional :: index
        end function

        integer(c_int) function myriarch_submit_array(session, function, first, count, argument, argument_bytes, bundle) &
            bind(c)
            import :: c_int, c_ptr, c_char, c_size_t, c_int64_t
            type(c_ptr), value :: session
            character(kind=c_char), intent(in) :: function(*)
            integer(c_int64_t), value :: first
            integer(c_int64_t), value :: count
            type(c_ptr), value :: argument
            integer(c_size_t), value :: argument_bytes
            integer(c_int64_t), intent(out) :: bundle
        end function

        integer(c_int) function myriarch_close(session, bundle) bind(c)
            import :: c_int, c_ptr, c_int64_t
            type(c_ptr), value :: session
            integer(c_int64_t), value :: bundle
        end function

        integer(c_int) function myriarch_next(session, bundle, outcome) bind(c)
            import :: c_int, c_ptr, c_int64_t, myriarch_outcome
            type(c_ptr), value :: session
            integer(c_int64_t), value :: bundle
            type(myriarch_outcome), intent(inout) :: outcome
        end function

        integer(c_int) function myriarch_try_next(session, bundle, outcome) bind(c)
            import :: c_int, c_ptr, c_int64_t, myriarch_outcome
            type(c_ptr), value :: session
            integer(c_int64_t), value :: bundle
            type(myriarch_outcome), intent(inout) :: outcome
        end function

        integer(c_int) function myriarch_wait(session, bundle, counts) bind(c)
            import :: c_int, c_ptr, c_int64_t, myriarch_counts
            type(c_ptr), value :: session
            integer(c_int64_t), value :: bundle
            type(myriarch_counts), intent(out), optional :: counts
        end function

        integer(c_int) function myriarch_cancel(session, bundle, first, count) bind(c)
            import :: c_int, c_ptr, c_int64_t
            type(c_ptr), value :: session
            integer(c_int64_t), value :: bundle
            integer(c_int64_t), value :: first
            integer(c_int64_t), value :: count
        end function

        integer(c_int) function myriarch_drop(session, bundle) bind(c)
            import :: c_int, c_ptr, c_int64_t
            type(c_ptr), value :: session
            integer(c_int64_t), value :: bundle
        end function

        type(c_ptr) function myriarch_error() bind(c)
            import :: c_ptr
        end function

        integer(c_size_t) function strlen(text) bind(c)
            import :: c_ptr, c_size_t
            type(c_ptr), value :: text
        end function
    end interface

contains

    ! What the last error of the calling thread was, in words.
    function myriarch_message() result(text)
        character(len=:), allocatable :: text
        text = myriarch_text(myriarch_error())
    end function

    ! Text of C, as the status of an outcome.
    function myriarch_text(pointer) result(text)
        type(c_ptr), intent(in) :: pointer
        character(len=:), allocatable :: text
        character(kind=c_char), pointer :: letters(:)
        integer :: i, length
        length = int(strlen(pointer))
        call c_f_pointer(pointer, letters, [length])
        allocate (character(len=length) :: text)
        do i = 1, length
            text(i:i) = letters(i)
        end do
    end function

end module
