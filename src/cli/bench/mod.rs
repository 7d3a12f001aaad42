mod traffic;
