// What clang-tidy must find: a name out of the house's manner.
namespace pagewire::planted {

class BadName {
 public:
  explicit BadName(int width) : WidthPixels(width) {}
  int width() const { return WidthPixels; }

 private:
  int WidthPixels;
};

int width_of(const BadName& of) { return of.width(); }

}  // namespace pagewire::planted
