"""python run.py [key=value ...]: see README.md and conf/config.yaml."""

from smartdpp.main import main

if __name__ == "__main__":
    main()
