// What clang-tidy must find: a name out of the house's manner, and a conversion to bool that should be explicit.
namespace pagewire::planted {

class BadName {
 public:
  BadName(int width) : WidthPixels(width) {}
  int width() const { return WidthPixels; }

 private:
  int WidthPixels;
};

int width_of(const BadName& of) { return of.width(); }

}  // namespace pagewire::planted
