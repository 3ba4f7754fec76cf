! Looks for the minimum of Rosenbrock's function: each round evaluates a grid on all ranks, and the next grid lies closer
! around the best point. Then enters a second time.
!
!     make install-c PREFIX=$HOME/.local
!     export PKG_CONFIG_PATH=$HOME/.local/lib/pkgconfig LD_LIBRARY_PATH=$HOME/.local/lib
!     mpifort -O2 -frecursive -o search $(pkg-config --variable=fortran myriarch) examples/fortran/search.f90 \
!         $(pkg-config --libs myriarch)
!     mpiexec -n 4 ./search

module functions
    use, intrinsic :: iso_c_binding
    use myriarch
    implicit none

    integer, parameter :: repeats = 1000

contains

    integer(c_int) function rosenbrock(task) bind(c)
        type(myriarch_task), intent(inout) :: task
        real(c_double), pointer :: point(:), value
        real(c_double) :: x, y, f, total
        integer :: i
        rosenbrock = 2
        if (task%payload_bytes /= 16) return
        call c_f_pointer(task%payload, point, [2])
        call c_f_pointer(task%value, value)
        x = point(1)
        y = point(2)
        f = (1 - x)*(1 - x) + 100*((y - x*x)*(y - x*x))
        ! A task that takes a while, as a true one would.
        total = 0
        do i = 1, repeats
            total = total + f/repeats
        end do
        value = total
        task%value_bytes = 8
        rosenbrock = 0
    end function

    integer(c_int) function index_sum(task) bind(c)
        type(myriarch_task), intent(inout) :: task
        integer(c_int64_t), pointer :: value
        call c_f_pointer(task%value, value)
        value = task%index
        task%value_bytes = 8
        index_sum = 0
    end function

end module

program main
    use, intrinsic :: iso_c_binding
    use, intrinsic :: iso_fortran_env, only: error_unit
    use mpi
    use myriarch
    use functions
    implicit none

    integer, parameter :: rounds = 12, side = 11, indexes = 1000
    type(c_ptr) :: prog, session
    integer :: level, ierror

    call MPI_Init_thread(MPI_THREAD_SERIALIZED, level, ierror)
    prog = myriarch_program_new()
    call check(myriarch_register(prog, "rosenbrock"//c_null_char, c_funloc(rosenbrock)))
    call check(myriarch_register(prog, "index_sum"//c_null_char, c_funloc(index_sum)))

    call check(myriarch_enter_f(prog, MPI_COMM_WORLD, session=session))
    if (c_associated(session)) then
        call search()
        call check(myriarch_finish(session))
    end if
    ! All ranks are the program's again, and may enter again.
    call MPI_Barrier(MPI_COMM_WORLD, ierror)
    call check(myriarch_enter_f(prog, MPI_COMM_WORLD, session=session))
    if (c_associated(session)) then
        call add_indexes()
        call check(myriarch_finish(session))
    end if
    call myriarch_program_free(prog)
    call MPI_Finalize(ierror)

contains

    ! Ends all ranks where a call went wrong.
    subroutine check(code)
        integer(c_int), intent(in) :: code
        if (code < 0) call fail(myriarch_message())
    end subroutine

    subroutine fail(why)
        character(len=*), intent(in) :: why
        write (error_unit, '(2a)') 'search: ', why
        call MPI_Abort(MPI_COMM_WORLD, 1, ierror)
    end subroutine

    ! The next outcome of a bundle, if there is one.
    logical function has_next(bundle, outcome)
        integer(c_int64_t), intent(in) :: bundle
        type(myriarch_outcome), intent(inout) :: outcome
        integer(c_int) :: code
        code = myriarch_next(session, bundle, outcome)
        call check(code)
        has_next = code == 1
        if (.not. has_next) return
        if (outcome%ok /= 1 .or. outcome%value_bytes /= 8) call fail(myriarch_text(outcome%status))
    end function

    subroutine search()
        real(c_double), target :: points(2, side*side)
        real(c_double) :: values(side*side), centre(2), h
        real(c_double), pointer :: value
        type(myriarch_outcome) :: outcome
        integer(c_int64_t) :: bundle
        integer :: round, i, j, at, best
        centre = 0
        h = 2
        do round = 0, rounds - 1
            call check(myriarch_open(session, "rosenbrock"//c_null_char, bundle=bundle))
            do i = 0, side - 1
                do j = 0, side - 1
                    at = side*i + j + 1
                    points(1, at) = centre(1) - h + 2*h*i/10
                    points(2, at) = centre(2) - h + 2*h*j/10
                    call check(myriarch_submit(session, bundle, c_loc(points(1, at)), 16_c_size_t))
                end do
            end do
            call check(myriarch_close(session, bundle))
            do while (has_next(bundle, outcome))
                ! gfortran's machines read doubles from any address.
                call c_f_pointer(outcome%value, value)
                values(outcome%index + 1) = value
            end do
            call check(myriarch_drop(session, bundle))

            best = 1
            do i = 2, side*side
                if (values(i) < values(best)) best = i
            end do
            centre = points(:, best)
            h = h*0.4_c_double
            print '(a)', 'round '//whole(int(round, c_int64_t))//': x='//decimal(centre(1))//' y='//decimal(centre(2)) &
                //' f='//exponential(values(best))
        end do
    end subroutine

    subroutine add_indexes()
        type(myriarch_outcome) :: outcome
        integer(c_int64_t) :: bundle, total
        integer(c_int64_t), pointer :: index
        call check(myriarch_submit_array(session, "index_sum"//c_null_char, 0_c_int64_t, int(indexes, c_int64_t), &
            c_null_ptr, 0_c_size_t, bundle))
        total = 0
        do while (has_next(bundle, outcome))
            call c_f_pointer(outcome%value, index)
            total = total + index
        end do
        print '(a)', 'sum of '//whole(int(indexes, c_int64_t))//' indexes: '//whole(total)
    end subroutine

    ! Numbers as C's printf has them.
    function whole(number) result(text)
        integer(c_int64_t), intent(in) :: number
        character(len=:), allocatable :: text
        character(len=24) :: buffer
        write (buffer, '(i0)') number
        text = trim(buffer)
    end function

    function decimal(number) result(text)
        real(c_double), intent(in) :: number
        character(len=:), allocatable :: text
        character(len=32) :: buffer
        write (buffer, '(f32.12)') number
        text = trim(adjustl(buffer))
    end function

    function exponential(number) result(text)
        real(c_double), intent(in) :: number
        character(len=:), allocatable :: text
        character(len=16) :: buffer
        integer :: at
        write (buffer, '(es16.6)') number
        at = index(buffer, 'E')
        buffer(at:at) = 'e'
        text = trim(adjustl(buffer))
    end function

end program
