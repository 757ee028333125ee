// What clang-tidy must find in the second source of a target, too: a conversion that should be explicit.
namespace pagewire::planted {

class Implicit {
 public:
  Implicit(int height) : height_(height) {}
  int height() const { return height_; }

 private:
  int height_;
};

int height_of(const Implicit& of) { return of.height(); }

}  // namespace pagewire::planted
